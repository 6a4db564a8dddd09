package judge_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/judge"
	"github.com/ovation-project/ovation/ovf/lint"
)

const descriptor = `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="c" ovf:href="c.img" ovf:size="10" ovf:chunkSize="4"/><File ovf:id="z" ovf:href="z.img" ovf:compression="gzip"/></References>
  <DiskSection><Info/><Disk ovf:diskId="c" ovf:fileRef="c" ovf:capacity="10" ovf:format="urn:x"/><Disk ovf:diskId="z" ovf:fileRef="z" ovf:capacity="1" ovf:format="urn:x"/></DiskSection>
  <VirtualSystem ovf:id="a"><Info/></VirtualSystem>
</Envelope>`

func TestFilesOfAFolder(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write([]byte("x"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := map[string]string{
		"a.ovf": descriptor, "c.img.000000000": "0123", "c.img.000000001": "4567", "c.img.000000002": "89", "z.img": zipped.String(),
	}
	for _, c := range []struct {
		name   string
		change func(map[string]string)
		want   []string
	}{
		{"whole", func(map[string]string) {}, nil},
		{"a short chunk", func(f map[string]string) { f["c.img.000000001"], f["c.img.000000002"] = "456", "789" }, []string{"OVF-PKG-010"}},
		{"a chunk that is missing", func(f map[string]string) { delete(f, "c.img.000000002") }, []string{"OVF-PKG-002"}},
		{"no gzip file", func(f map[string]string) { f["z.img"] = "x" }, []string{"OVF-PKG-008"}},
		{"a missing file", func(f map[string]string) { delete(f, "z.img") }, []string{"OVF-PKG-001"}},
		{"no file at all", func(f map[string]string) { clear(f); f["a.ovf"] = descriptor }, []string{"OVF-PKG-001", "OVF-PKG-001"}},
	} {
		dir := t.TempDir()
		files := map[string]string{}
		for name, text := range whole {
			files[name] = text
		}
		c.change(files)
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := judged(t, dir); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestADescriptorByItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ovf")
	if err := os.WriteFile(path, []byte(descriptor), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := judged(t, path); !slices.Equal(got, []string{"OVF-PKG-012"}) {
		t.Errorf("%v, want one warning", got)
	}
}

// judged gives the rules about files that a package breaks, but for the wish for
// a manifest.
func judged(t *testing.T, locator string) []string {
	t.Helper()
	p, err := appliance.Open(t.Context(), locator, appliance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var rules []string
	for _, f := range judge.Lint(t.Context(), p, lint.Options{}) {
		if f.Severity != lint.Info {
			rules = append(rules, f.Rule)
		}
	}
	return rules
}
