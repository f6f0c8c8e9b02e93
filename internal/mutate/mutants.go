package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// A mutant is one change of the source.
type mutant struct {
	id       int
	position token.Position
	function string
	from, to string // the source that it changes, and what it makes of it
}

// key tells a mutant from others, and outlives changes elsewhere in its file.
func (m mutant) key() string {
	return fmt.Sprintf("%s %s: %s → %s", m.position.Filename, m.function, m.from, m.to)
}

// A mutator rewrites one file so that it has all its mutants in it, each asleep
// behind a call of mutated. It adds no line, so that positions stay.
type mutator struct {
	files   *token.FileSet
	source  []byte
	mutants []mutant
	seen    map[string]int // how many mutants have a key

	function string
	// What is to be written before and after an offset, and instead of what
	// stands there.
	before, after map[int]string
	instead       map[int]replacement
}

type replacement struct {
	length int
	text   string
}

// mutate returns a source with mutants from the id first on. The name is how
// the mutants call the file.
func mutate(name string, source []byte, first int) ([]byte, []mutant, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	m := &mutator{
		files:   files,
		source:  source,
		seen:    make(map[string]int),
		before:  make(map[int]string),
		after:   make(map[int]string),
		instead: make(map[int]replacement),
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
			m.function = functionName(f)
			m.returnAtOnce(f)
			m.body(f.Type, f.Body)
		}
	}
	for i := range m.mutants {
		m.mutants[i].id += first
	}
	return m.render(first), m.mutants, nil
}

func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver = pointer.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	if name, ok := receiver.(*ast.Ident); ok {
		return name.Name + "." + f.Name.Name
	}
	return f.Name.Name
}

// idMark is the placeholder for a mutant's id in a text.
const idMark = "\x00"

// add notes a mutant of a node.
func (m *mutator) add(node ast.Node, to string) {
	next := mutant{
		id:       len(m.mutants),
		position: m.files.Position(node.Pos()),
		function: m.function,
		from:     firstLine(m.text(node)),
		to:       firstLine(to),
	}
	key := next.key()
	if m.seen[key]++; m.seen[key] > 1 {
		next.to += fmt.Sprintf(" (%d)", m.seen[key])
	}
	m.mutants = append(m.mutants, next)
}

// wrap has text written before and after a node. What is added first is further
// out.
func (m *mutator) wrap(node ast.Node, before, after string) {
	id := fmt.Sprintf("%s%d%s", idMark, len(m.mutants)-1, idMark)
	start, end := m.offset(node.Pos()), m.offset(node.End())
	m.before[start] += strings.ReplaceAll(before, "ID", id)
	m.after[end] = after + m.after[end]
}

func (m *mutator) offset(pos token.Pos) int { return m.files.Position(pos).Offset }

func (m *mutator) text(node ast.Node) string {
	return string(m.source[m.offset(node.Pos()):m.offset(node.End())])
}

func firstLine(text string) string {
	line, _, more := strings.Cut(text, "\n")
	if more {
		line += "…"
	}
	return line
}

// render applies what was noted.
func (m *mutator) render(first int) []byte {
	var b strings.Builder
	for i := 0; i <= len(m.source); i++ {
		b.WriteString(m.after[i])
		b.WriteString(m.before[i])
		if instead, ok := m.instead[i]; ok {
			b.WriteString(instead.text)
			i += instead.length - 1
			continue
		}
		if i < len(m.source) {
			b.WriteByte(m.source[i])
		}
	}
	// The ids are known now.
	parts := strings.Split(b.String(), idMark)
	for i := 1; i < len(parts); i += 2 {
		var id int
		fmt.Sscan(parts[i], &id)
		parts[i] = fmt.Sprint(first + id)
	}
	return []byte(strings.Join(parts, ""))
}

// body notes the mutants of a function's body. Function literals are bodies of
// their own.
func (m *mutator) body(signature *ast.FuncType, body *ast.BlockStmt) {
	covered := make(map[ast.Expr]bool) // by a mutant that would be the same
	ast.Inspect(body, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.FuncLit:
			m.body(n.Type, n.Body)
			return false
		case *ast.BlockStmt:
			m.statements(signature, n.List, n == body)
		case *ast.CaseClause:
			m.statements(signature, n.Body, false)
		case *ast.CommClause:
			m.statements(signature, n.Body, false)
		case *ast.IfStmt:
			m.negate(n.Cond, covered)
		case *ast.ForStmt:
			if n.Cond != nil {
				m.negate(n.Cond, covered)
			}
		case *ast.SwitchStmt:
			if n.Tag == nil {
				m.cases(n.Body, covered)
			}
		case *ast.ReturnStmt:
			m.returned(signature, n, covered)
		case *ast.BinaryExpr:
			m.binary(n, covered)
		case *ast.UnaryExpr:
			if n.Op == token.NOT {
				m.negate(n, covered)
			}
		case *ast.CallExpr:
			m.clone(n)
		}
		return true
	})
}

// cases negates the conditions of a switch without a tag.
func (m *mutator) cases(body *ast.BlockStmt, covered map[ast.Expr]bool) {
	for _, clause := range body.List {
		for _, condition := range clause.(*ast.CaseClause).List {
			m.negate(condition, covered)
		}
	}
}

// negate turns a condition around.
func (m *mutator) negate(condition ast.Expr, covered map[ast.Expr]bool) {
	if covered[condition] {
		return
	}
	covered[condition] = true
	to := "!(" + m.text(condition) + ")"
	if not, ok := condition.(*ast.UnaryExpr); ok && not.Op == token.NOT {
		to = m.text(not.X)
	}
	m.add(condition, to)
	m.wrap(condition, "(mutated(ID) != (", "))")
}

var swapped = map[token.Token]token.Token{
	token.LSS: token.LEQ,
	token.LEQ: token.LSS,
	token.GTR: token.GEQ,
	token.GEQ: token.GTR,
}

// binary swaps < and <=, > and >=, negates == and !=, and leaves out either side
// of && and ||.
func (m *mutator) binary(n *ast.BinaryExpr, covered map[ast.Expr]bool) {
	switch n.Op {
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		op := swapped[n.Op].String()
		m.add(n, m.text(n.X)+" "+op+" "+m.text(n.Y))
		m.wrap(n, fmt.Sprintf("mutatedOrder(ID, %q, ", n.Op), ")")
		m.instead[m.offset(n.OpPos)] = replacement{len(n.Op.String()), ","}
	case token.EQL, token.NEQ:
		m.negate(n, covered)
	case token.LAND:
		m.add(n, m.text(n.Y))
		m.wrap(n.X, "(mutated(ID) || (", "))")
		m.add(n, m.text(n.X))
		m.wrap(n.Y, "(mutated(ID) || (", "))")
	case token.LOR:
		m.add(n, m.text(n.Y))
		m.wrap(n.X, "(!mutated(ID) && (", "))")
		m.add(n, m.text(n.X))
		m.wrap(n.Y, "(!mutated(ID) && (", "))")
	}
}

// clone leaves a Clone of slices, maps, bytes or strings out.
func (m *mutator) clone(n *ast.CallExpr) {
	function, ok := n.Fun.(*ast.SelectorExpr)
	if !ok || function.Sel.Name != "Clone" || len(n.Args) != 1 {
		return
	}
	if pkg, ok := function.X.(*ast.Ident); !ok || !strings.Contains(" slices maps bytes strings ", " "+pkg.Name+" ") {
		return
	}
	m.add(n, m.text(n.Args[0]))
	m.wrap(n.Args[0], "", ", "+m.text(function))
	// The name of the function moves behind the argument.
	id := fmt.Sprintf("%s%d%s", idMark, len(m.mutants)-1, idMark)
	start := m.offset(function.Pos())
	m.instead[start] = replacement{m.offset(n.Lparen) + 1 - start, "mutatedClone(" + id + ", "}
}

// statements notes the statements of a block that can be left out.
func (m *mutator) statements(signature *ast.FuncType, list []ast.Stmt, isBody bool) {
	for i, statement := range list {
		if last := i == len(list)-1; canBeDropped(statement, last && isBody, last) {
			m.add(statement, "nothing")
			m.wrap(statement, "if !mutated(ID) { ", " }")
		}
	}
}

// canBeDropped reports whether what is left compiles, and is another program.
func canBeDropped(statement ast.Stmt, endsBody, last bool) bool {
	switch s := statement.(type) {
	case *ast.AssignStmt:
		name, isName := s.Lhs[0].(*ast.Ident)
		return s.Tok != token.DEFINE && !(isName && name.Name == "_" && len(s.Lhs) == 1)
	case *ast.ExprStmt:
		call, isCall := s.X.(*ast.CallExpr)
		if !isCall {
			return true
		}
		name, isName := call.Fun.(*ast.Ident)
		return !(isName && name.Name == "panic" && last) // a function may have to end with it
	case *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt:
		return true
	case *ast.BranchStmt:
		return s.Tok == token.BREAK || s.Tok == token.CONTINUE
	case *ast.ReturnStmt:
		return len(s.Results) == 0 && !endsBody
	default:
		return false
	}
}

// returnAtOnce has a function return zero values and do nothing.
func (m *mutator) returnAtOnce(f *ast.FuncDecl) {
	if len(f.Body.List) == 0 {
		return
	}
	if _, isReturn := f.Body.List[0].(*ast.ReturnStmt); isReturn {
		return
	}
	next := mutant{
		id:       len(m.mutants),
		position: m.files.Position(f.Pos()),
		function: m.function,
		from:     "its body",
		to:       "return zero values",
	}
	m.mutants = append(m.mutants, next)
	id := fmt.Sprintf("%s%d%s", idMark, next.id, idMark)
	m.before[m.offset(f.Body.Lbrace)+1] += "if mutated(" + id + ") { " + m.zeroReturn(f.Type) + " }; "
}

// returned has zero values returned instead, and bools turned around.
func (m *mutator) returned(signature *ast.FuncType, n *ast.ReturnStmt, covered map[ast.Expr]bool) {
	if len(n.Results) == 0 {
		return
	}
	types := resultTypes(signature)
	same := true // as zero values
	for i, result := range n.Results {
		if len(n.Results) == len(types) && m.text(types[i]) == "bool" {
			m.negate(result, covered)
			continue
		}
		same = same && m.isZero(result)
	}
	if same {
		return
	}
	m.add(n, "return zero values")
	m.wrap(n, "if mutated(ID) { "+m.zeroReturn(signature)+" }; ", "")
}

func (m *mutator) isZero(e ast.Expr) bool {
	switch text := m.text(e); text {
	case "nil", "0", "false", `""`:
		return true
	default:
		return strings.HasSuffix(text, "{}") && !strings.HasPrefix(text, "&")
	}
}

func (m *mutator) zeroReturn(signature *ast.FuncType) string {
	var zeros []string
	for _, t := range resultTypes(signature) {
		zeros = append(zeros, "*new("+m.text(t)+")")
	}
	return strings.TrimSpace("return " + strings.Join(zeros, ", "))
}

// resultTypes has one type for each result.
func resultTypes(signature *ast.FuncType) []ast.Expr {
	var types []ast.Expr
	if signature.Results == nil {
		return nil
	}
	for _, field := range signature.Results.List {
		for range max(1, len(field.Names)) {
			types = append(types, field.Type)
		}
	}
	return types
}
