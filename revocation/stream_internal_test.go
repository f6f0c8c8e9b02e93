package revocation

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// endless repeats a text for ever and counts what was read of it.
type endless struct {
	start, text string
	read        int64
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if e.start == "" {
			e.start = e.text
		}
		copied := copy(p[n:], e.start)
		e.start = e.start[copied:]
		n += copied
	}
	e.read += int64(n)
	return n, nil
}

// Whatever a hostile server sends, an object of more than 32 MiB ends the stream,
// and what is held stays small.
func TestDecoderIsBounded(t *testing.T) {
	for name, from := range map[string]*endless{
		"an endless string":  {`{"type":"ADDED","object":{"metadata":{"uid":"`, "a", 0},
		"an endless name":    {`{"type":"ADDED","object":{"metadata":{"`, `\u003c`, 0},
		"endless members":    {`{"type":"ADDED","object":{"metadata":{`, `"` + strings.Repeat("a", 300) + `":1,`, 0},
		"endless labels":     {`{"type":"ADDED","object":{"metadata":{"labels":{`, `"` + strings.Repeat("a", 300) + `":"b",`, 0},
		"endless nesting":    {`{"type":`, `[`, 0},
		"endless whitespace": {"", "\n", 0},
		"an endless number":  {`{"code":`, "1", 0},
	} {
		decoder := newDecoder(from)
		if _, err := decoder.event(); err == nil {
			t.Errorf("%s: no error", name)
		} else if name != "endless nesting" && !errors.Is(err, errTooLarge) {
			t.Errorf("%s: %v: want %v", name, err, errTooLarge)
		}
		most := int64(maxHeld + 100) // and what comes before the value
		switch name {
		case "an endless string", "an endless name", "endless members", "endless labels":
			most = maxObjectSize
		}
		if from.read > most {
			t.Errorf("%s: %d bytes are read", name, from.read)
		}
		if held := decoder.read - decoder.InputOffset(); held > maxHeld {
			t.Errorf("%s: %d bytes are held", name, held)
		}
	}
	// Whoever may make pods can make large ones. They are read, and not held.
	for name, members := range map[string]string{
		"an annotation of 256 KiB, escaped": `"annotations":{"a":"` + strings.Repeat(`\u003c`, 256<<10) + `"}`,
		"6 MiB of labels":                   `"labels":{` + strings.Repeat(`"`+strings.Repeat("a", 317)+`":"a",`, 19_000) + `"a":"a"}`,
		"an owner of 9 MiB, escaped":        `"ownerReferences":[{"name":"` + strings.Repeat(`\u003c`, 3<<19) + `"}]`,
		"a field of 9 MiB, escaped":         `"managedFields":[{"f:` + strings.Repeat(`\"\\`, 9<<18) + `":{}}]`,
		"10 MiB of owners":                  `"ownerReferences":[` + strings.Repeat(`{"name":"`+strings.Repeat("a", 600)+`"},`, 17_000) + `{}]`,
		"deep fields":                       `"managedFields":[` + strings.Repeat(`{"f:a":`, 9990) + `{}` + strings.Repeat(`}`, 9990) + `]`,
	} {
		const before, after = `{"type":"ADDED","object":{"metadata":{"uid":"a",`, `,"deletionTimestamp":"2030-01-01T00:00:07Z"}}}`
		e, err := newDecoder(strings.NewReader(before + members + after)).event()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if uid, deletion, _ := e.check(); uid != "a" || deletion == 0 {
			t.Errorf("%s: %+v", name, e)
		}
	}
	// Many objects are no large one.
	d := newDecoder(&endless{"", `{"type":"ADDED","object":{"metadata":{"uid":"a"}}}` + "\n", 0})
	for range 50_000 {
		if e, err := d.event(); err != nil || e.Object.Metadata.UID != "a" {
			t.Fatalf("%v, %+v", err, e)
		}
	}
	if capacity := d.read - d.InputOffset(); capacity > 64<<10 {
		t.Errorf("%d bytes are held", capacity)
	}
	const large = 4 << 20
	item := `{"metadata":{"uid":"a","annotations":{"a":"` + strings.Repeat("a", large) + `"}}}`
	text := `{"metadata":{"resourceVersion":"7"},"items":[` + strings.Repeat(item+",", maxObjectSize/large) + item + `]}`
	if _, _, err := readList(strings.NewReader(text), func(*object) error { return nil }); err != nil {
		t.Errorf("large ones in a list: %v", err)
	}
}

// However a string is cut into reads, it is as it was, or its beginning.
func TestShortener(t *testing.T) {
	const most = maxString
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", ``, ``},
		{"short ones", `{"a":"b\"c","":[1,"\\"]}`, `{"a":"b\"c","":[1,"\\"]}`},
		{"as long as may be", `"` + strings.Repeat("a", most) + `"`, `"` + strings.Repeat("a", most) + `"`},
		{"longer", `"` + strings.Repeat("a", most+1) + `"1`, `"` + strings.Repeat("a", most) + `"1`},
		{"a quote where it ends", `"` + strings.Repeat("a", most-1) + `\"b","c"`, `"` + strings.Repeat("a", most-1) + `\"","c"`},
		{"an escape where it ends", `"` + strings.Repeat("a", most-1) + `\u003cb"1`, `"` + strings.Repeat("a", most-1) + `\u003c"1`},
		{"an escape after the end", `"` + strings.Repeat("a", most) + `\u003c\"\\"1`, `"` + strings.Repeat("a", most) + `"1`},
		{"another after it", `"` + strings.Repeat("a", 3*most) + `","` + strings.Repeat("b", most) + `"`,
			`"` + strings.Repeat("a", most) + `","` + strings.Repeat("b", most) + `"`},
	} {
		for _, piece := range []int{1, 2, 5, 1000, 1 << 20} {
			var s shortener
			var got strings.Builder
			for rest := []byte(tt.text); len(rest) > 0; {
				now := rest[:min(piece, len(rest))]
				rest = rest[len(now):]
				got.Write(now[:s.shorten(now)])
			}
			if got.String() != tt.want {
				t.Errorf("%s, in pieces of %d: %.50q, %d bytes: want %d", tt.name, piece, got.String(), got.Len(), len(tt.want))
			}
		}
	}
}

func TestEvents(t *testing.T) {
	nested := func(depth int) string {
		const before, after = `{"type":"ADDED","object":{"metadata":{"managedFields":`, `,"uid":"u"}}}`
		return before + strings.Repeat("[", depth) + strings.Repeat("]", depth) + after
	}
	const meta = `"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata"`
	for _, tt := range []struct {
		line string
		want string // kind, UID, deletionTimestamp and whether it ends the list; or a part of the error
	}{
		{`{"type":"ADDED","object":{` + meta + `,"metadata":{"name":"a","uid":"u","labels":{"uid":"x"}}}}`, "ADDED u 0 false"},
		{`{"type":"MODIFIED","object":{` + meta + `,"metadata":{"uid":"u","deletionTimestamp":"2030-01-01T00:00:07Z"}}}`, "MODIFIED u 1893456007 false"},
		{`{"type":"MODIFIED","object":{` + meta + `,"metadata":{"uid":"u","deletionTimestamp":"1970-01-01T00:00:00Z"}}}`, "MODIFIED u 1 false"},
		{`{"type":"DELETED","object":{` + meta + `,"metadata":{"uid":"u","deletionTimestamp":null}}}`, "DELETED u 0 false"},
		{`{"type":"BOOKMARK","object":{` + meta + `,"metadata":{"resourceVersion":"7","creationTimestamp":null,"annotations":{"k8s.io/initial-events-end":"true"}}}}`, "BOOKMARK  0 true"},
		{`{"type":"BOOKMARK","object":{` + meta + `,"metadata":{"resourceVersion":"7"}}}`, "BOOKMARK  0 false"},
		{`{"type":"BOOKMARK","object":{` + meta + `,"metadata":{"annotations":{"k8s.io/initial-events-end":"false"}}}}`, "BOOKMARK  0 false"},
		{`{"type":"ADDED","object":{` + meta + `,"metadata":{"uid":"u","annotations":{"k8s.io/initial-events-end":"true"}}}}`, "ADDED u 0 false"},
		{`{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"reason":"Expired","code":410}}`, "code 410"},
		{`{"type":"ERROR","object":{"message":"secret \u001b[2J","reason":"secret","details":{"secret":"secret"},"code":500}}`, "code 500"},
		{`{"type":"ERROR","object":{"message":"secret","code":"secret"}}`, "not what an API server writes"},
		{`{"type":"secret","object":{"secret":1}}`, "unknown type"},
		{`{"type":"ADDED","object":{"metadata":{}}}`, "without a UID"},
		{`{"type":"ADDED"}`, "without a UID"},
		{`{"type":"DELETED","object":{"metadata":{"uid":"` + strings.Repeat("u", 129) + `"}}}`, "over 128 bytes"},
		{`{"type":"DELETED","object":{"metadata":{"uid":"` + strings.Repeat("u", 128) + `"}}}`, "DELETED " + strings.Repeat("u", 128) + " 0 false"},
		{`{"type":"ADDED","object":{"metadata":{"uid":"u","generation":1e999}}}`, "ADDED u 0 false"},
		{`{"type":"ADDED","object":{"spec":{"metadata":{"uid":"x"}},"code":7,"metadata":{"uid":"u"}},"metadata":{"uid":"x"}}`, "ADDED u 0 false"},
		{`{"type":"BOOKMARK","object":{"metadata":{"annotations":{"a":"k8s.io/initial-events-end","b":"true"}}}}`, "BOOKMARK  0 false"},
		{`{"type":"BOOKMARK","object":{"metadata":{"annotations":{"a":{"k8s.io/initial-events-end":"true"}}}}}`, "BOOKMARK  0 false"},
		{`{"type":"ADDED","object":{"metadata":{"uid":"u","annotations":null}}}`, "ADDED u 0 false"},
		{nested(maxDepth - 1), "ADDED u 0 false"},
		{nested(maxDepth), "not what an API server writes"},
		{`{"type":"ADDED","object":{"metadata":null}}`, "without a UID"},
		{`{"type":"ADDED","object":[{"metadata":{"uid":"u"}}]}`, "not what an API server writes"},
		{`{"type":"ADDED","object":{"metadata":{"uid":"u"]}}`, "not what an API server writes"},
		{`{"type":"GONE","object":{"metadata":{"uid":"u"}}}`, "unknown type"},
		{`{"type":"ADDED","object":{"metadata":{"uid":7}}}`, "not what an API server writes"},
		{`{"type":"ADDED","object":{"metadata":{"uid":"u","deletionTimestamp":"secret"}}}`, "not what an API server writes"},
		{`secret`, "not what an API server writes"},
		{`{"type":"ADDED"`, "the stream broke off"},
		{`{"type":"ADDED","object":{"metadata":{"labels":{"a":`, "the stream broke off"},
		{``, "the API server ended the stream"},
	} {
		e, err := newDecoder(strings.NewReader(tt.line)).event()
		var got string
		if err == nil && e.Type != "BOOKMARK" {
			var uid string
			var deletion int64
			uid, deletion, err = e.check()
			got = fmt.Sprint(e.Type, " ", uid, " ", deletion, " ", e.endsList())
		} else if err == nil {
			got = fmt.Sprint(e.Type, "  0 ", e.endsList())
		}
		if err != nil {
			got = err.Error()
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) || strings.Contains(got, "secret") {
			t.Errorf("%.200s: %s: want %s", tt.line, got, tt.want)
		}
	}
	if _, err := newDecoder(iotest.ErrReader(errors.New("secret"))).event(); fmt.Sprint(err) != "the stream broke off" {
		t.Errorf("a network that fails between two events: %v: want the stream broke off", err)
	}
}

func TestReadList(t *testing.T) {
	const item = `{"metadata":{"uid":"u","deletionTimestamp":"2030-01-01T00:00:07Z"}}`
	for _, tt := range []struct{ list, want string }{
		{`{"kind":"L","metadata":{"resourceVersion":"7","continue":"next"},"items":[` + item + `,` + item + `]}`, "7 next 2"},
		{`{"items":[` + item + `],"metadata":{"resourceVersion":"7"}}`, "7  1"},
		{`{"items":null,"metadata":{"resourceVersion":"7"},"more":{"a":[1]}}`, "7  0"},
		{`{"items":[],"metadata":{"resourceVersion":"7"}}`, "7  0"},
		{`{"items":[]}`, "without a resource version"},
		{`{"items":[{}],"metadata":{"resourceVersion":"7"}}`, "without a UID"},
		{`{"items":{},"metadata":{"resourceVersion":"7"}}`, "no array"},
		{`{"items":[` + item + `,"secret"],"metadata":{"resourceVersion":"7"}}`, "not what an API server writes"},
		{`{"items":[` + item, "the stream broke off"},
		{`{"metadata":{"resourceVersion":"7"},"items":[`, "the stream broke off"},
		{`["secret"]`, "not what an API server writes"},
		{`{"metadata":{"resourceVersion":"7","continue":"` + strings.Repeat("c", maxContinue+1) + `"},"items":[]}`, "too long"},
		{`{"metadata":{"resourceVersion":"7","continue":"` + strings.Repeat("c", maxContinue) + `"},"items":[]}`, "7 " + strings.Repeat("c", maxContinue) + " 0"},
		{`{"metadata":{"resourceVersion":"` + strings.Repeat("7", maxUID+1) + `"},"items":[]}`, "too long"},
		{`{"metadata":{"resourceVersion":"` + strings.Repeat("7", maxUID) + `"},"items":[]}`, strings.Repeat("7", maxUID) + "  0"},
		{`{"metadata":{"selfLink":{"continue":"x"},"resourceVersion":"7"},"items":[]}`, "7  0"},
		{`{"metadata":null,"items":[]}`, "without a resource version"},
		{`{"metadata":{"resourceVersion":"7"},"items":7}`, "no array"},
		{`{"metadata":{"resourceVersion":"7"},"items":[` + item + `}}`, "not what an API server writes"},
		{`{"metadata":{"resourceVersion":"7"},"items":["secret"`, "not what an API server writes"},
		{`{"metadata":{"resourceVersion":7},"items":[]}`, "not what an API server writes"},
		{`{"metadata":{"resourceVersion":"7","continue":{}},"items":[]}`, "not what an API server writes"},
		{``, "the API server ended the stream"},
		{`{"other":"` + strings.Repeat("a", maxObjectSize) + `"}`, "more than"},
		{`{"other":` + strings.Repeat("1", maxHeld) + `}`, "more than"},
	} {
		items := 0
		version, next, err := readList(strings.NewReader(tt.list), func(o *object) error {
			items++
			_, _, err := o.key()
			return err
		})
		got := fmt.Sprint(version, " ", next, " ", items)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) || strings.Contains(got, "secret") {
			t.Errorf("%.200s: %s: want %s", tt.list, got, tt.want)
		}
	}
}

// Whatever comes, no panic, and no error that holds what came.
func FuzzStream(f *testing.F) {
	f.Add(`{"type":"ADDED","object":{"metadata":{"uid":"u"}}}`)
	f.Add(`{"items":[{"metadata":{"uid":"u"}}],"metadata":{"resourceVersion":"7"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		d := newDecoder(strings.NewReader(text))
		for {
			e, err := d.event()
			if err != nil {
				break
			}
			e.check()
		}
		readList(io.MultiReader(strings.NewReader(text)), func(o *object) error { _, _, err := o.key(); return err })
	})
}
