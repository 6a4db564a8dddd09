package descriptor

import (
	"os"
	"testing"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/ovf"
)

// FuzzRead turns any descriptor into a specification and that into a
// descriptor, which has to be one where the specification is sound.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"testdata/first.ovf", "testdata/second.ovf"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := ovf.Parse(data, ovf.ParseOptions{MaxSize: 1 << 20, MaxNodes: 10_000})
		if err != nil {
			return
		}
		for _, opt := range []ReadOptions{{}, {KeysOnly: true}} {
			a, _, err := Read(doc, opt)
			if err != nil {
				continue
			}
			text, err := a.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			again, err := spec.Parse("a.yaml", text)
			if err != nil {
				continue // a descriptor can be what a specification must not
			}
			out, err := Render(again, stated(again, doc.Envelope()), Options{})
			if err != nil {
				continue
			}
			if _, err := ovf.Parse(out, ovf.ParseOptions{}); err != nil {
				t.Fatalf("%v\n%s\n%s", err, text, out)
			}
		}
	})
}
