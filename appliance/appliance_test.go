package appliance_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/summary"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/ovf"
)

const descriptor = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References>%s</References>
  <DiskSection><Info/><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="1048576"/></DiskSection>
  <VirtualSystem ovf:id="a"><Info/></VirtualSystem>
</Envelope>`

type member struct {
	name string
	data []byte
}

// archive makes a tar in one of the formats that there are.
func archive(t testing.TB, format tar.Format, files ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: 0o644, Format: format}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func manifestOf(files ...member) member {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "SHA256(%s)= %x\n", f.name, sha256.Sum256(f.data))
	}
	return member{"a.mf", []byte(b.String())}
}

func file(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, locator string) *appliance.Package {
	t.Helper()
	p, err := appliance.Open(context.Background(), locator, appliance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func pack(refs string, files ...member) []member {
	all := append([]member{{"a.ovf", fmt.Appendf(nil, descriptor, refs)}}, files...)
	return append(all[:1:1], append([]member{manifestOf(all...)}, files...)...)
}

func TestEveryWayOfStoringATarReadsAlike(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(rt, "data")
		name := rapid.StringMatching(`[a-z][a-z0-9 .é-]{0,120}x`).Draw(rt, "name")
		format := rapid.SampledFrom([]tar.Format{tar.FormatUnknown, tar.FormatPAX, tar.FormatGNU}).Draw(rt, "format")
		all := pack(fmt.Sprintf(`<File ovf:id="f" ovf:href="%s" ovf:size="%d"/>`, name, len(data)), member{name, data})
		p, err := appliance.Open(context.Background(), file(t, "a.ova", archive(t, format, all...)), appliance.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer p.Close()
		r, err := p.OpenReader(context.Background(), name)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data) || !r.Verified() {
			rt.Fatalf("read %d of %d bytes, %v", len(got), len(data), err)
		}
		f, err := p.Unverified().OpenFile(context.Background(), name)
		if err != nil {
			rt.Fatal(err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size())); err != nil || !bytes.Equal(got, data) {
			rt.Fatalf("random access: %d of %d bytes, %v", len(got), len(data), err)
		}
		report, err := p.Verify(context.Background(), appliance.VerifyOptions{})
		if err != nil || report.Err() != nil {
			rt.Fatal(err, report.Err())
		}
	})
}

func TestAReaderProvesWhatItReads(t *testing.T) {
	data := bytes.Repeat([]byte("disk"), 1<<18)
	all := pack(`<File ovf:id="f" ovf:href="d.vmdk"/>`, member{"d.vmdk", data})
	all[2].data = bytes.Clone(data)
	all[2].data[500_000] ^= 1
	p := open(t, file(t, "a.ova", archive(t, tar.FormatUSTAR, all...)))
	r, err := p.OpenReader(context.Background(), "d.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	var altered *appliance.AlteredError
	if _, err := io.ReadAll(r); !errors.As(err, &altered) || altered.Name != "d.vmdk" || !errors.Is(err, appliance.ErrAltered) {
		t.Errorf("read whole: %v", err)
	}
	if r, err = p.OpenReader(context.Background(), "d.vmdk"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := r.Drain(); !errors.Is(err, appliance.ErrAltered) {
		t.Errorf("drained: %v", err)
	}
}

func TestChunks(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 25)
	var chunks []member
	for i := 0; i*100 < len(data); i++ {
		chunks = append(chunks, member{fmt.Sprintf("d.vmdk.%09d", i), data[i*100 : min(len(data), i*100+100)]})
	}
	refs := `<File ovf:id="f" ovf:href="d.vmdk" ovf:size="250" ovf:chunkSize="100"/>`
	p := open(t, file(t, "a.ova", archive(t, tar.FormatUSTAR, pack(refs, chunks...)...)))
	f, err := p.Unverified().OpenFile(context.Background(), "d.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size())); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%q, %v", got, err)
	}
	r, err := p.OpenReader(context.Background(), "d.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) || !r.Verified() {
		t.Errorf("%q, %v", got, err)
	}
	report, err := p.Verify(context.Background(), appliance.VerifyOptions{})
	if err != nil || report.Err() != nil {
		t.Error(err, report.Err())
	}
	short := open(t, file(t, "a.ova", archive(t, tar.FormatUSTAR, pack(refs, chunks[0], chunks[2])...)))
	if _, err := short.Unverified().OpenFile(context.Background(), "d.vmdk"); !errors.Is(err, appliance.ErrIncomplete) || !strings.Contains(err.Error(), "d.vmdk.000000001") {
		t.Errorf("a chunk is missing: %v", err)
	}
}

func TestHrefs(t *testing.T) {
	p := open(t, file(t, "a.ova", archive(t, tar.FormatPAX, pack("", member{"My Disk.vmdk", []byte("x")}, member{"b-disk1.vmdk", nil})...)))
	files := p.Unverified()
	for _, href := range []string{"My Disk.vmdk", "My%20Disk.vmdk", "./My%20Disk.vmdk"} {
		if _, err := files.OpenFile(context.Background(), href); err != nil {
			t.Errorf("%s: %v", href, err)
		}
	}
	for href, want := range map[string]string{
		"my disk.vmdk":  `it does not hold "my disk.vmdk"; it holds a.ovf, a.mf, My Disk.vmdk, b-disk1.vmdk ("My Disk.vmdk" comes nearest)`,
		"B_Disk1.vmdk":  `("b-disk1.vmdk" comes nearest)`,
		"other/My.vmdk": "it does not hold",
	} {
		if _, err := files.OpenFile(context.Background(), href); !errors.Is(err, appliance.ErrIncomplete) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", href, err)
		}
	}
	for _, href := range []string{"http://example.com/x", "//example.com/x", "file:///etc/passwd", "/etc/passwd", "../x", "%2e%2e/x", `a\b`, ""} {
		if _, err := files.OpenFile(context.Background(), href); !errors.Is(err, disk.ErrOutside) {
			t.Errorf("%s: %v", href, err)
		}
	}
}

func TestAFolderKeepsItsBounds(t *testing.T) {
	dir := t.TempDir()
	outside := file(t, "secret", []byte("secret"))
	if err := os.Symlink(outside, filepath.Join(dir, "d.vmdk")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.ovf"), fmt.Appendf(nil, descriptor, `<File ovf:id="f" ovf:href="d.vmdk"/>`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, dir)
	if _, err := p.Unverified().OpenFile(context.Background(), "d.vmdk"); err == nil {
		t.Error("a link that leads out of the folder is followed")
	}
}

// serve serves a folder and counts.
func serve(t *testing.T, dir string) (url string, requests, sent *atomic.Int64) {
	t.Helper()
	requests, sent = &atomic.Int64{}, &atomic.Int64{}
	files := http.FileServer(http.Dir(dir))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		files.ServeHTTP(&counting{w, sent}, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, requests, sent
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.ResponseWriter.Write(b)
}

// TestALargeArchiveOnAServer looks into an archive of 10 GB, which is all holes
// here, with a few requests.
func TestALargeArchiveOnAServer(t *testing.T) {
	const size = 10_000_000_000
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "a.ova"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	desc := fmt.Appendf(nil, descriptor, fmt.Sprintf(`<File ovf:id="f" ovf:href="d.vmdk" ovf:size="%d"/>`, int64(size)))
	for _, m := range []member{{"a.ovf", desc}, {"a.mf", []byte("SHA1(a.ovf)= " + strings.Repeat("0", 40))}} {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "d.vmdk", Size: size, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate((at+size+511)&^511 + 1024); err != nil {
		t.Fatal(err)
	}
	url, requests, sent := serve(t, dir)
	p := open(t, url+"/a.ova")
	s, err := summary.Of(context.Background(), p, summary.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Disks[0].FileSize != size || s.Manifest != "a.mf" {
		t.Errorf("disk %+v, manifest %q", s.Disks[0], s.Manifest)
	}
	if n := requests.Load(); n > 4 {
		t.Errorf("%d requests", n)
	}
	if n := sent.Load(); n > 1<<20 {
		t.Errorf("%d bytes were sent", n)
	}
}

func TestAFolderOnAServer(t *testing.T) {
	dir := t.TempDir()
	data := bytes.Repeat([]byte("disk"), 100_000)
	for _, m := range pack(`<File ovf:id="f" ovf:href="d%201.vmdk" ovf:size="400000"/>`, member{"d 1.vmdk", data}) {
		if err := os.WriteFile(filepath.Join(dir, m.name), m.data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	url, _, _ := serve(t, dir)
	p := open(t, url+"/a.ovf")
	report, err := p.Verify(context.Background(), appliance.VerifyOptions{})
	if err != nil || report.Err() != nil || report.Manifest != "a.mf" || len(report.Files) != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := os.Remove(filepath.Join(dir, "d 1.vmdk")); err != nil {
		t.Fatal(err)
	}
	report, err = open(t, url+"/a.ovf").Verify(context.Background(), appliance.VerifyOptions{})
	if err != nil || !errors.Is(report.Err(), appliance.ErrIncomplete) {
		t.Errorf("%v, %v", report.Err(), err)
	}
	if _, err := appliance.Open(context.Background(), url+"/absent.ova", appliance.Options{}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("absent: %v", err)
	}
}

func TestExpand(t *testing.T) {
	zipped := []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\xc8\x04\x00\xac\x2a\x93\xd8\x02\x00\x00\x00") // "hi"
	for _, c := range []struct {
		name string
		f    *ovf.File
		in   []byte
		want string
		err  bool
	}{
		{"plain", &ovf.File{}, []byte("hi"), "hi", false},
		{"as said", &ovf.File{Compression: "gzip"}, zipped, "hi", false},
		{"without a word", &ovf.File{}, zipped, "hi", false},
		{"said and not so", &ovf.File{Compression: "gzip"}, []byte("hi"), "", true},
		{"unknown", &ovf.File{Compression: "lzma"}, []byte("hi"), "", true},
		{"empty", nil, nil, "", false},
	} {
		r, _, err := appliance.Expand(c.f, bytes.NewReader(c.in))
		if (err != nil) != c.err {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(archive(f, tar.FormatUSTAR, pack(`<File ovf:id="f" ovf:href="d.vmdk"/>`, member{"d.vmdk", []byte("x")})...))
	f.Add(archive(f, tar.FormatPAX, pack(`<File ovf:id="f" ovf:href="d.vmdk" ovf:chunkSize="1"/>`, member{"d.vmdk.000000000", []byte("x")})...))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := appliance.Open(context.Background(), file(t, "a.ova", data), appliance.Options{})
		if err == nil {
			if r, err := p.Verify(context.Background(), appliance.VerifyOptions{}); err == nil {
				_ = r.Err()
			}
			p.Close()
		}
		_, _ = appliance.VerifyStream(context.Background(), bytes.NewReader(data), appliance.VerifyOptions{})
	})
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	desc := fmt.Appendf(nil, descriptor, "")
	if err := os.WriteFile(filepath.Join(dir, "a.ovf"), desc, 0o600); err != nil {
		fmt.Println(err)
		return
	}
	p, err := appliance.Open(context.Background(), dir, appliance.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	fmt.Println(p.Kind(), p.DescriptorName(), p.Document().Envelope().Content.ID)
	// Output: folder a.ovf a
}
