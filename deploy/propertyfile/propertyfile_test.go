package propertyfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		want  map[string]string
		wrong string
	}{
		"lines.txt": {"\ufeff# a comment\nhostname=web1\r\n\n key = with = and spaces \nempty=\n  # another\nquoted=\"x\"\n",
			map[string]string{"hostname": "web1", "key": " with = and spaces ", "empty": "", "quoted": `"x"`}, ""},
		"props":     {"a=1\na=hunter2\n", nil, "line 2: the property a is there twice"},
		"no.txt":    {"hunter2\n", nil, "line 1 is not KEY=VALUE"},
		"nokey.txt": {"=hunter2\n", nil, "line 1 is not KEY=VALUE"},
		"values.yaml": {"hostname: web1\nport: 0080\non: yes\nnone:\nversion: 1.10\nvami:\n  ip0: 10.0.0.1\n  deep: {er: x}\nlong: |\n  two\n  lines\n",
			map[string]string{"hostname": "web1", "port": "0080", "on": "yes", "none": "", "version": "1.10", "vami.ip0": "10.0.0.1", "vami.deep.er": "x", "long": "two\nlines\n"}, ""},
		"values.JSON": {`{"a": "x", "n": 12, "b": true}`, map[string]string{"a": "x", "n": "12", "b": "true"}, ""},
		"empty.yml":   {"", map[string]string{}, ""},
		"list.yaml":   {"- hunter2\n", nil, "not a mapping"},
		"within.yaml": {"a:\n  - hunter2\n", nil, "line 2: the value of a is neither"},
		"twice.yaml":  {"a.b: 1\na:\n  b: hunter2\n", nil, "line 3: the property a.b is there twice"},
		"broken.yaml": {"a: 'hunter2\n", nil, "is not YAML"},
		"alias.yaml":  {"a: &x hunter2\nb: *x\n", nil, "line 2: the value of b"},
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if test.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), test.wrong) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v, want %q", name, err, test.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a=1\n", "a: 1\nb: {c: d}\n", `{"a":"b"}`, "a: &x [*x]\n", "? [a]\n: b\n", "\ufeff=\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, parse := range []func([]byte) (map[string]string, error){ParseLines, ParseYAML} {
			values, err := parse(text)
			if (values == nil) == (err == nil) {
				t.Errorf("%v, %v", values, err)
			}
			if _, empty := values[""]; empty {
				t.Error("a key is empty")
			}
		}
	})
}
