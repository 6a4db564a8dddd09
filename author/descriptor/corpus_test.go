package descriptor

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// corpus gives the descriptors that other products wrote.
func corpus(t *testing.T) map[string][]byte {
	root := filepath.Join("..", "..", "..", "shared", "corpus")
	if dir := os.Getenv("OVATION_CORPUS"); dir != "" {
		root = dir
	}
	all := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".ovf") {
			return err
		}
		b, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, root)] = b
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the reference descriptors are not at %s", root)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// stated is the layout that a descriptor itself states.
func stated(a *spec.Appliance, env *ovf.Envelope) *Layout {
	l := &Layout{Disks: map[string]Disk{}}
	size := map[string]int64{}
	for _, f := range env.References {
		size[f.ID+" "+f.Href] = f.Size
	}
	for _, d := range a.Disks {
		if d.File != "" {
			l.Files = append(l.Files, File{ID: d.FileID, Href: d.File, Size: size[d.FileID+" "+d.File], Compression: d.Compression, ChunkSize: int64(d.ChunkSize)})
		}
		l.Disks[d.ID] = Disk{FileID: d.FileID, Populated: -1}
	}
	for _, f := range a.Files {
		l.Files = append(l.Files, File{ID: f.ID, Href: f.Name, Size: size[f.ID+" "+f.Name], Compression: f.Compression, ChunkSize: int64(f.ChunkSize), Attributes: f.Attributes})
	}
	return l
}

// info is an Info: the standard wants one in every section, so that they are
// added where they are missing. infos compares those that are there.
var info = regexp.MustCompile(`<ovf Info(\x00[^>]*)?>[^<]*</>`)

func infos(e *xmldoc.Element) []string {
	var all []string
	e.Walk(func(e *xmldoc.Element) bool {
		if e.Local == "Info" {
			all = append(all, strings.TrimSpace(e.Text()))
		}
		return true
	})
	return all
}

// model is what a descriptor says: its sections, each in canonical form, with
// the order of sections of different kinds and of References left out.
func model(e *xmldoc.Element) []string {
	var all []string
	for _, c := range e.Children {
		switch c.Local {
		case "Info":
		case "VirtualSystem", "VirtualSystemCollection":
			all = append(all, c.Local+" "+attribute(c, "id")+" {"+strings.Join(model(c), "\n")+"}")
		case "References", "DiskSection", "SharedDiskSection":
			all = append(all, model(c)...)
		default:
			if c.Local == "Name" && strings.TrimSpace(c.Text()) == "" {
				continue
			}
			all = append(all, info.ReplaceAllString(canonical(c), ""))
		}
	}
	if e.Local != "VirtualSystemCollection" {
		slices.Sort(all)
	} else {
		slices.SortStableFunc(all, func(a, b string) int {
			word := func(s string) string { w, _, _ := strings.Cut(s, ">"); return w }
			if strings.HasPrefix(a, "Virtual") || strings.HasPrefix(b, "Virtual") {
				return 0
			}
			return strings.Compare(word(a), word(b))
		})
	}
	return all
}

// view is the typed view without places: what is compared for OVF 0.9, whose
// elements have other names.
func view(t *testing.T, env *ovf.Envelope) any {
	b, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	delete(v, "Version")
	var strip func(any) any
	strip = func(x any) any {
		switch x := x.(type) {
		case map[string]any:
			delete(x, "Sections")
			for k := range x {
				x[k] = strip(x[k])
			}
		case []any:
			for i := range x {
				x[i] = strip(x[i])
			}
			if len(x) == 0 {
				return nil
			}
		}
		return x
	}
	refs, _ := v["References"].([]any)
	slices.SortFunc(refs, func(a, b any) int {
		return strings.Compare(a.(map[string]any)["ID"].(string), b.(map[string]any)["ID"].(string))
	})
	return strip(v)
}

func TestCorpusRoundTrip(t *testing.T) {
	all, equal, full := 0, 0, 0
	for name, data := range corpus(t) {
		doc, err := ovf.Parse(data, ovf.ParseOptions{})
		if err != nil {
			continue // not well-formed
		}
		all++
		a, report, err := Read(doc, ReadOptions{})
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		text, err := a.Marshal()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := spec.Parse("appliance.yaml", text)
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		out, err := Render(again, stated(again, doc.Envelope()), Options{})
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		built, err := ovf.Parse(out, ovf.ParseOptions{})
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		var diff string
		// OVF 0.9 has a Content of a type for a VirtualSystem, and so have some
		// that say to be OVF 1.
		if doc.Envelope().Element().Space == built.Envelope().Element().Space && doc.Envelope().Content.Element().Local != "Content" {
			diff = cmp.Diff(model(doc.Envelope().Element()), model(built.Envelope().Element()))
			for _, text := range infos(doc.Envelope().Element()) {
				if text != "" && !slices.Contains(infos(built.Envelope().Element()), text) {
					diff += "lost: " + text
				}
			}
		} else {
			diff = cmp.Diff(view(t, doc.Envelope()), view(t, built.Envelope()))
		}
		if diff != "" {
			t.Logf("%s: %v\n%s", name, report, diff)
			if len(report.Lost) == 0 && !strings.Contains(name, "/negative/") {
				t.Errorf("%s: nothing is said to be lost", name)
			}
			continue
		}
		equal++
		if len(report.Raw)+len(report.Lost) == 0 {
			full++
		}
	}
	t.Logf("%d of %d descriptors come out equal (%.0f %%), %d of them without XML", equal, all, 100*float64(equal)/float64(all), full)
	if 10*equal < 9*all {
		t.Errorf("%d of %d are fewer than nine in ten", equal, all)
	}
}
