package strictjson_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kubejwt/kubejwt/internal/strictjson"
)

type target struct {
	Name   string `json:"name"`
	Nested struct {
		Number int `json:"number"`
	} `json:"nested"`
}

func TestUnmarshal(t *testing.T) {
	for _, tt := range []struct {
		name, data   string
		open, closed bool // accepted by Unmarshal, by UnmarshalClosed
	}{
		{"good", `{"name":"a","nested":{"number":1}}`, true, true},
		{"white space", " {\n\"name\" : \"a\" }\t", true, true},
		{"an escaped name", `{"n\u0061me":"a"}`, true, true},
		{"null for a member", `{"name":null}`, true, true},
		{"another member", `{"name":"a","other":1}`, true, false},
		{"another member, nested", `{"nested":{"other":1}}`, true, false},
		{"a name in another case", `{"Name":"a"}`, true, false},
		{"null", `null`, false, false},
		{"null in white space", "\t null\r\n", false, false},
		{"nothing", ``, false, false},
		{"an array", `[]`, false, false},
		{"a string", `"name"`, false, false},
		{"doubled", `{"name":"a","name":"a"}`, false, false},
		{"doubled by an escape", `{"name":"a","n\u0061me":"a"}`, false, false},
		{"doubled in another member", `{"other":{"a":1,"a":1}}`, false, false},
		{"more behind it", `{"name":"a"}{}`, false, false},
		{"a byte order mark", "\ufeff{}", false, false},
		{"invalid UTF-8", "{\"name\":\"\xff\"}", false, false},
		{"invalid UTF-8 in another member", "{\"other\":\"\xff\"}", false, false},
		{"half a surrogate pair", `{"name":"\ud800"}`, false, false},
		{"a comment", `{"name":"a"/* */}`, false, false},
		{"a trailing comma", `{"name":"a",}`, false, false},
		{"a control character", "{\"name\":\"\x01\"}", false, false},
		{"a string for a number", `{"nested":{"number":"1"}}`, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := strictjson.Unmarshal([]byte(tt.data), new(target)); (err == nil) != tt.open {
				t.Errorf("Unmarshal: %v: want accepted %t", err, tt.open)
			}
			if err := strictjson.UnmarshalClosed([]byte(tt.data), new(target)); (err == nil) != tt.closed {
				t.Errorf("UnmarshalClosed: %v: want accepted %t", err, tt.closed)
			}
		})
	}
}

// An error names a member that its reader knows, and quotes nothing.
func TestErrors(t *testing.T) {
	err := strictjson.Unmarshal([]byte(`{"nested":{"number":"secret"}}`), new(target))
	if wrong, ok := errors.AsType[*strictjson.TypeError](err); !ok || wrong.Member != "/nested/number" {
		t.Errorf("%v: want a TypeError of /nested/number", err)
	}
	const want = "the member /nested/number has a value of the wrong type or out of range"
	if err == nil || err.Error() != want {
		t.Errorf("%v: want %s", err, want)
	}
	for _, data := range []string{`{"secret":1,"secret":2}`, `{"secret":1}`, `{"name":secret}`, `{"nested":{"secret":[}`, `"secret"`} {
		if err := strictjson.UnmarshalClosed([]byte(data), new(target)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v: want an error that quotes nothing", data, err)
		}
	}
}

// short is a string that is decoded by a method of its own.
type short string

func (s *short) UnmarshalJSONFrom(from *strictjson.Decoder) error {
	if err := strictjson.Decode(from, (*string)(s)); err != nil {
		return err
	}
	if len(*s) > 3 {
		return errors.New("too long")
	}
	return nil
}

// What a type reads by itself is read as strictly as the rest.
func TestDecode(t *testing.T) {
	for data, want := range map[string]short{
		`{"name":"abc"}`:      "abc",
		`{"name":"abcd"}`:     "", // an error
		`{"name":1}`:          "",
		`{"name":"\ud800"}`:   "",
		"{\"name\":\"\xff\"}": "",
	} {
		var target struct {
			Name short `json:"name"`
		}
		err := strictjson.Unmarshal([]byte(data), &target)
		if (err == nil) != (want != "") || err == nil && target.Name != want {
			t.Errorf("%s: %q, %v, want %q", data, target.Name, err, want)
		}
	}
}
