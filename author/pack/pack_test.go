package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/appliance/ova"
	"github.com/ovation-project/ovation/disk"
)

// sample is a package of two files, of which the second's size is not known
// before.
func sample() *Package {
	text := func(s string) func(context.Context, io.Writer) error {
		return func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, s)
			return err
		}
	}
	return &Package{
		Name: "p", Hash: crypto.SHA256,
		Descriptor: func(made Made) ([]byte, error) {
			return fmt.Appendf(nil, `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"><References><File ovf:id="a" ovf:href="a.bin" ovf:size="%d"/><File ovf:id="b" ovf:href="b.bin" ovf:size="%d"/></References><VirtualSystem ovf:id="v"><Info/></VirtualSystem></Envelope>`, made["a.bin"], made["b.bin"]), nil
		},
		Parts: []Part{{Name: "a.bin", Size: 5, Write: text("first")}, {Name: "b.bin", Size: -1, Write: text("the second")}},
	}
}

func whole(t *testing.T, path string) {
	t.Helper()
	p, err := appliance.Open(t.Context(), path, appliance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.Verify(t.Context(), appliance.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if n := len(p.Entries()); n != 4 {
		t.Errorf("%d files are in the package", n)
	}
}

func TestPut(t *testing.T) {
	var got []byte
	var refuse int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if r.Method != http.MethodPut || err != nil || r.ContentLength != int64(len(b)) {
			t.Errorf("%s of %d bytes, %d said: %v", r.Method, len(b), r.ContentLength, err)
		}
		if got != nil && r.Header.Get("If-None-Match") == "*" {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		if refuse != 0 {
			w.WriteHeader(refuse)
			return
		}
		got = b
	}))
	defer server.Close()
	to := server.URL + "/p.ova?signature=hidden"
	opt := Options{TempDir: t.TempDir()}
	if _, err := sample().Put(t.Context(), server.Client(), to, opt); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "p.ova")
	if err := os.WriteFile(path, got, 0o666); err != nil {
		t.Fatal(err)
	}
	whole(t, path)

	if _, err := sample().Put(t.Context(), server.Client(), to, opt); !errors.Is(err, ErrRemoteExists) {
		t.Errorf("got %v", err)
	}
	opt.Replace = true
	if _, err := sample().Put(t.Context(), server.Client(), to, opt); err != nil {
		t.Error(err)
	}
	refuse = http.StatusForbidden
	_, err := sample().Put(t.Context(), server.Client(), to, opt)
	if err == nil || !strings.Contains(err.Error(), "403 Forbidden") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("got %v", err)
	}
	server.Close()
	if _, err = sample().Put(t.Context(), server.Client(), to, opt); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(opt.TempDir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// TestFlow sends archives whose sizes are known before: nothing is staged, and
// what is sent is whole.
func TestFlow(t *testing.T) {
	known := func(change func(*Package)) *Package {
		p := sample()
		p.Parts[1].Size = int64(len("the second"))
		change(p)
		return p
	}
	var got []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusTemporaryRedirect)
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client broke off
		}
		if r.ContentLength != int64(len(b)) {
			t.Errorf("%d bytes came and %d were said", len(b), r.ContentLength)
		}
		got = b
	}))
	defer server.Close()
	// There is no such folder: staging would fail.
	opt := Options{TempDir: filepath.Join(t.TempDir(), "none"), Note: func(s string) { t.Errorf("note: %s", s) }}
	for name, c := range map[string]struct {
		change func(*Package)
		order  []string
	}{
		"plain":       {func(*Package) {}, []string{"p.ovf", "a.bin", "b.bin", "p.mf"}},
		"no manifest": {func(p *Package) { p.Hash = 0 }, []string{"p.ovf", "a.bin", "b.bin"}},
		"signed":      {func(p *Package) { p.Signer = signs{} }, []string{"p.ovf", "a.bin", "b.bin", "p.mf", "p.cert"}},
		"chunks": {func(p *Package) {
			p.Parts[1].ChunkSize = 4
			descriptor := p.Descriptor
			p.Descriptor = func(m Made) ([]byte, error) {
				b, err := descriptor(m)
				return bytes.Replace(b, []byte(`ovf:id="b"`), []byte(`ovf:chunkSize="4" ovf:id="b"`), 1), err
			}
		}, []string{"p.ovf", "a.bin", "b.bin.000000000", "b.bin.000000001", "b.bin.000000002", "p.mf"}},
		"chunk digests": {func(p *Package) { p.ChunkDigests = "p.chunks" }, []string{"p.ovf", "a.bin", "b.bin", "p.chunks", "p.mf"}},
	} {
		for how, send := range map[string]func(*Package) ([]Stored, error){
			"stream": func(p *Package) ([]Stored, error) {
				var b bytes.Buffer
				stored, err := p.Stream(t.Context(), &b, opt)
				got = b.Bytes()
				return stored, err
			},
			"put": func(p *Package) ([]Stored, error) {
				return p.Put(t.Context(), server.Client(), server.URL+"/new", opt)
			},
			"redirected": func(p *Package) ([]Stored, error) {
				return p.Put(t.Context(), server.Client(), server.URL+"/old", opt)
			},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				got = nil
				stored, err := send(known(c.change))
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(t.TempDir(), "p.ova")
				if err := os.WriteFile(path, got, 0o666); err != nil {
					t.Fatal(err)
				}
				var order, told []string
				for r := tar.NewReader(bytes.NewReader(got)); ; {
					h, err := r.Next()
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					order = append(order, h.Name)
				}
				for _, s := range stored {
					told = append(told, s.Name)
				}
				if !slices.Equal(order, c.order) || !slices.Equal(told, c.order) {
					t.Errorf("the archive holds %q, and is said to hold %q", order, told)
				}
				if len(got)%(20*512) != 0 {
					t.Errorf("%d bytes are no whole records", len(got))
				}
				p, err := appliance.Open(t.Context(), path, appliance.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				r, err := p.Verify(t.Context(), appliance.VerifyOptions{})
				if err != nil || r.Err() != nil {
					t.Error(err, r.Err())
				}
				if !strings.Contains(string(p.Document().Bytes()), `ovf:size="10"`) {
					t.Errorf("the descriptor is %s", p.Document().Bytes())
				}
			})
		}
	}

	// What cannot be finished does not end, and is said to be what it is.
	altered := []byte("SHA256(a.bin)= " + strings.Repeat("00", 32) + "\n")
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		change func(*Package)
		want   error
	}{
		"altered": {func(p *Package) { p.Manifest = altered }, appliance.ErrAltered},
		"broken":  {func(p *Package) { p.Parts[1].Write = func(context.Context, io.Writer) error { return broken } }, broken},
		"shorter": {func(p *Package) { p.Parts[1].Size++ }, ova.ErrSize},
		"longer":  {func(p *Package) { p.Parts[1].Size-- }, ova.ErrSize},
	} {
		got = nil
		if _, err := known(c.change).Put(t.Context(), server.Client(), server.URL+"/new", opt); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: got %v, and the server has %d bytes", name, err, len(got))
		}
		var b bytes.Buffer
		if _, err := known(c.change).Stream(t.Context(), &b, opt); !errors.Is(err, c.want) || bytes.HasSuffix(b.Bytes(), make([]byte, 1024)) {
			t.Errorf("%s: got %v, and %d bytes went out", name, err, b.Len())
		}
	}
}

// TestFails breaks off in each part: nothing may have a name.
func TestFails(t *testing.T) {
	broken := errors.New("broken")
	for name, change := range map[string]func(*Package){
		"part": func(p *Package) { p.Parts[1].Write = func(context.Context, io.Writer) error { return broken } },
		"made": func(p *Package) {
			p.Parts[1].Write = nil
			p.Parts[1].Make = func(context.Context, disk.Output, string) error { return broken }
		},
		"space":      func(p *Package) { p.Parts[1].Size = 1 << 60 },
		"descriptor": func(p *Package) { p.Descriptor = func(Made) ([]byte, error) { return nil, broken } },
		"grows": func(p *Package) {
			n := 0
			p.Descriptor = func(Made) ([]byte, error) { n++; return bytes.Repeat([]byte(" "), n), nil }
		},
		"manifest": func(p *Package) { p.Manifest = []byte("SHA256(a.bin)= " + strings.Repeat("00", 32) + "\n") },
		"name":     func(p *Package) { p.Parts[1].Name = "../b.bin" },
		"same":     func(p *Package) { p.Parts[1].Name = "A.BIN" },
		"unsigned": func(p *Package) { p.Hash, p.Signer = 0, signs{} },
	} {
		for _, into := range []string{"p.ova", "p"} {
			if name == "grows" && into == "p" {
				continue // nothing is reserved in a folder
			}
			t.Run(name+" "+into, func(t *testing.T) {
				dir := t.TempDir()
				p := sample()
				change(p)
				var err error
				if IsArchive(into) {
					_, err = p.Archive(t.Context(), filepath.Join(dir, into), Options{})
				} else {
					_, err = p.Folder(t.Context(), filepath.Join(dir, into), Options{})
				}
				if err == nil {
					t.Error("no error")
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("%v is left, %v", left, err)
				}
			})
		}
	}
}

// TestNames packs names that are not ASCII, and as long as they can be.
func TestNames(t *testing.T) {
	for _, name := range []string{"größe 1.bin", strings.Repeat("n", 100), strings.Repeat("ü", 50)} {
		p := sample()
		descriptor := p.Descriptor
		p.Descriptor = func(m Made) ([]byte, error) {
			b, err := descriptor(Made{"a.bin": m[name], "b.bin": m["b.bin"]})
			return bytes.Replace(b, []byte("a.bin"), []byte(name), 1), err
		}
		p.Parts[0].Name = name
		path := filepath.Join(t.TempDir(), "p.ova")
		if _, err := p.Archive(t.Context(), path, Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		whole(t, path)
	}
	p := sample()
	p.Parts[0].Name = strings.Repeat("n", 101)
	if _, err := p.Archive(t.Context(), filepath.Join(t.TempDir(), "p.ova"), Options{}); !errors.Is(err, ErrName) {
		t.Errorf("got %v", err)
	}
}

type signs struct{}

func (signs) MaxSize() int                                         { return 10 }
func (signs) Sign(context.Context, string, []byte) ([]byte, error) { return []byte("x"), nil }

// TestOf writes a package elsewhere as it is.
func TestOf(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "first.ova")
	s := sample()
	s.Style = manifest.Style{Hyphen: true, NoSpace: true}
	s.Parts[0].ChunkSize, s.Parts[0].Size = 3, 5
	descriptor := s.Descriptor
	s.Descriptor = func(m Made) ([]byte, error) {
		b, err := descriptor(m)
		return bytes.Replace(b, []byte(`ovf:id="a"`), []byte(`ovf:chunkSize="3" ovf:id="a"`), 1), err
	}
	s.Signer = signs{}
	if _, err := s.Archive(t.Context(), first, Options{}); err != nil {
		t.Fatal(err)
	}
	p, err := appliance.Open(t.Context(), first, appliance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	again, left, err := Of(t.Context(), p)
	if err != nil || len(left) > 0 || again.Style != s.Style {
		t.Fatalf("%v, %v is left, style %+v", err, left, again)
	}
	if _, err := again.Folder(t.Context(), filepath.Join(dir, "folder"), Options{}); err != nil {
		t.Fatal(err)
	}
	q, err := appliance.Open(t.Context(), filepath.Join(dir, "folder"), appliance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	back, _, err := Of(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(dir, "second.ova")
	if _, err := back.Archive(t.Context(), second, Options{}); err != nil {
		t.Fatal(err)
	}
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("unpacked and packed again it is another archive")
	}
}

// contents gives what the files of a package hold, as they are stored.
func contents(t *testing.T, path string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	if !IsArchive(path) {
		for _, e := range must(os.ReadDir(path)) {
			all[e.Name()] = must(os.ReadFile(filepath.Join(path, e.Name())))
		}
		return all
	}
	f := must(os.Open(path))
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = must(io.ReadAll(r))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestChunkDigests wants the digests of all stored files, in a file behind
// them, however they are stored.
func TestChunkDigests(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // 3.2 MB
	for _, into := range []string{"p.ova", "p"} {
		for name, change := range map[string]func(*Part){
			"plain": func(*Part) {}, "unknown size": func(p *Part) { p.Size = -1 }, "gzip": func(p *Part) { p.Gzip = true },
			"chunks": func(p *Part) { p.ChunkSize = 1_200_000 },
			"made": func(p *Part) {
				write := p.Write
				p.Write = nil
				p.Make = func(ctx context.Context, o disk.Output, name string) error {
					f, err := o.Create(name)
					if err == nil {
						err = write(ctx, io.NewOffsetWriter(f, 0))
					}
					return err
				}
			},
		} {
			t.Run(name+" "+into, func(t *testing.T) {
				p := sample()
				p.ChunkDigests = "p.chunks"
				part := &p.Parts[1]
				part.Size = int64(len(big))
				part.Write = func(_ context.Context, w io.Writer) error { _, err := w.Write(big); return err }
				change(part)
				path := filepath.Join(t.TempDir(), into)
				write := p.Folder
				if IsArchive(into) {
					write = p.Archive
				}
				stored, err := write(t.Context(), path, Options{})
				if err != nil {
					t.Fatal(err)
				}
				if last := stored[len(stored)-1]; last.Name != "p.chunks" {
					t.Fatalf("the last file is %s", last.Name)
				}
				files := contents(t, path)
				read := func(name string) []byte { return files[name] }
				l, err := chunkdigest.Parse(read("p.chunks"))
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range stored {
					if s.Name == "p.ovf" || s.Name == "p.mf" || s.Name == "p.chunks" {
						if l.Lookup(s.Name) != nil {
							t.Errorf("%s is listed", s.Name)
						}
						continue
					}
					f, data := l.Lookup(s.Name), read(s.Name)
					if f == nil || f.Size != int64(len(data)) {
						t.Fatalf("%s of %d bytes is listed as %+v", s.Name, len(data), f)
					}
					for i := range f.Sums {
						if err := f.Prove(int64(i), data[i<<20:min(len(data), (i+1)<<20)]); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
}

// TestKept leaves files of a folder as they are, and reads them only for what
// nobody knows.
func TestKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	p := sample()
	p.ChunkDigests = "p.chunks"
	stored, err := p.Folder(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		digest, chunks bool
		asks           string // the package has chunk digests where it is not ""
		read           bool
	}{
		{"all is known", true, true, "p.chunks", false},
		{"no digest", false, true, "p.chunks", true},
		{"no chunk digests", true, false, "p.chunks", true},
		{"none are asked for", true, false, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := sample()
			p.ChunkDigests = c.asks
			read := false
			for i := range p.Parts {
				part := &p.Parts[i]
				k := stored[len(stored)-3+i]
				if k.Name != part.Name {
					t.Fatalf("%s is not %s", k.Name, part.Name)
				}
				h := chunkdigest.NewHasher(part.Name)
				if err := part.Write(t.Context(), h); err != nil {
					t.Fatal(err)
				}
				k.Chunks = h.File()
				if !c.digest {
					k.Digest = nil
				}
				if !c.chunks {
					k.Chunks = nil
				}
				part.Kept = []Stored{k}
				write := part.Write
				part.Write = func(ctx context.Context, w io.Writer) error { read = true; return write(ctx, w) }
			}
			if _, err := p.Folder(t.Context(), dir, Options{Replace: true}); err != nil {
				t.Fatal(err)
			}
			if read != c.read {
				t.Errorf("the files were read: %v", read)
			}
			a, err := appliance.Open(t.Context(), dir, appliance.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if r, err := a.Verify(t.Context(), appliance.VerifyOptions{}); err != nil || r.Err() != nil {
				t.Error(err, r.Err())
			}
		})
	}
}
