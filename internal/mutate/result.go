package main

import (
	"fmt"
	"strings"
)

// A result is what came of a package's mutants.
type result struct {
	pkg              string
	killed, accepted int
	endless          int      // of those killed: by a test that did not end, or was too slow on a busy machine
	survivors        []mutant // that are not accepted
}

func (r *result) count(m mutant, f fate, accepted map[string]string) {
	killed := f != survived
	if f == endless {
		r.endless++
	}
	switch _, isAccepted := accepted[m.key()]; {
	case killed && isAccepted:
		fmt.Printf("%v: survivors.txt has it, and it is killed: %s\n", m.position, m.key())
		r.killed++
	case killed:
		r.killed++
	case isAccepted:
		r.accepted++
	default:
		fmt.Printf("%v survived:\n%s\n", m.position, m.key())
		r.survivors = append(r.survivors, m)
	}
}

// String has the share of the mutants killed among those that change something.
func (r result) String() string {
	judged := r.killed + len(r.survivors)
	return fmt.Sprintf("%s: %d mutants: %d killed (%d by not ending), %d survived, %d change nothing: %.1f %% killed",
		r.pkg, judged+r.accepted, r.killed, r.endless, len(r.survivors), r.accepted,
		100*float64(r.killed)/float64(max(1, judged)))
}

// parseAccepted reads survivors.txt: the key of a mutant in a line, and in
// indented ones below it the reason why it changes nothing. Empty lines and those
// that begin with # mean nothing.
func parseAccepted(text string) (map[string]string, error) {
	accepted := make(map[string]string)
	key := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch indented := strings.HasPrefix(line, "\t"); {
		case line == "" || line[0] == '#':
		case !indented && key != "" && accepted[key] == "":
			return nil, fmt.Errorf("survivors.txt gives no reason for %s", key)
		case !indented:
			key = line
			if _, twice := accepted[key]; twice {
				return nil, fmt.Errorf("survivors.txt has %s twice", key)
			}
			accepted[key] = ""
		case key == "":
			return nil, fmt.Errorf("survivors.txt begins with a reason")
		default:
			accepted[key] = strings.TrimSpace(accepted[key] + " " + strings.TrimSpace(line))
		}
	}
	if key != "" && accepted[key] == "" {
		return nil, fmt.Errorf("survivors.txt gives no reason for %s", key)
	}
	return accepted, nil
}
