package serve

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const descriptor = `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="f" ovf:href="%s"/></References>
  <DiskSection><Info>Disks</Info><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="1048576"/></DiskSection>
  <VirtualSystem ovf:id="vm"><Info>A machine</Info>
    <ProductSection><Info>Product</Info><Product>&lt;script>alert(1)&lt;/script></Product><Vendor>V</Vendor><Version>1.2</Version></ProductSection>
  </VirtualSystem>
</Envelope>`

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// payload is a file that is nowhere the same.
func payload(n int) []byte {
	b := make([]byte, 0, n+20)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d\n", i)
	}
	return b[:n]
}

// folder has packages, and what must not be served.
func folder(t testing.TB) (dir string, disk []byte) {
	top := t.TempDir()
	dir, disk = filepath.Join(top, "served"), payload(300_000)
	ovf := fmt.Appendf(nil, descriptor, "disk 1#.img")
	write(t, filepath.Join(dir, "sub/p.ovf"), ovf)
	write(t, filepath.Join(dir, "sub/p.mf"), fmt.Appendf(nil, "SHA256(p.ovf)= %x\nSHA256(disk 1#.img)= %x\n", sha256.Sum256(ovf), sha256.Sum256(disk)))
	write(t, filepath.Join(dir, "sub/disk 1#.img"), disk)
	write(t, filepath.Join(dir, "sub/private.txt"), []byte("private"))
	write(t, filepath.Join(dir, "disk 1#.img"), []byte("of no package"))
	write(t, filepath.Join(dir, ".hidden.ova"), []byte("hidden"))
	write(t, filepath.Join(dir, ".git/x.ova"), []byte("hidden"))
	write(t, filepath.Join(dir, "<b>bad.ova"), []byte("no archive"))
	write(t, filepath.Join(top, "outside.ova"), []byte("outside"))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, data := range map[string][]byte{"a.ovf": fmt.Appendf(nil, descriptor, "d.img")} {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Format: tar.FormatUSTAR})
		_, _ = w.Write(data)
	}
	_ = w.WriteHeader(&tar.Header{Name: "d.img", Mode: 0o644, Size: int64(len(disk)), Format: tar.FormatUSTAR})
	_, _ = w.Write(disk)
	_ = w.Close()
	write(t, filepath.Join(dir, "a.ova"), b.Bytes())
	for from, to := range map[string]string{"link.ova": "../outside.ova", "inner.ova": "a.ova", "etc": "/etc", "absolute.ova": filepath.Join(top, "outside.ova")} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.ova"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, disk
}

func handler(t testing.TB, dir string, opt Options) *Handler {
	t.Helper()
	h, err := New(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// ask makes a request; headers are pairs.
func ask(h http.Handler, method, target string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, "http://host/", nil)
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut(target, "?")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatIsServed(t *testing.T) {
	dir, disk := folder(t)
	if err := exec.Command("mkfifo", filepath.Join(dir, "pipe.ova")).Run(); err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	h := handler(t, dir, Options{})
	for _, p := range []string{"/a.ova", "/inner.ova", "/sub/p.ovf", "/sub/p.mf", "/sub/disk 1#.img", "/<b>bad.ova"} {
		r := ask(h, "GET", p)
		if r.StatusCode != 200 {
			t.Errorf("%s: %s", p, r.Status)
		}
		if e := r.Header.Get("ETag"); !strings.HasPrefix(e, `"`) || r.Header.Get("Last-Modified") == "" || r.Header.Get("Accept-Ranges") != "bytes" {
			t.Errorf("%s: %v", p, r.Header)
		}
	}
	if b := body(t, ask(h, "GET", "/sub/disk 1#.img")); !bytes.Equal(b, disk) {
		t.Error("the disk differs")
	}
	for _, p := range []string{
		"/disk 1#.img", "/sub/private.txt", "/sub", "/sub/", "/.hidden.ova", "/.git/x.ova", "/link.ova", "/absolute.ova", "/etc/passwd",
		"/etc/x.ova", "/folder.ova", "/pipe.ova", "/../outside.ova", "/sub/../a.ova", "//a.ova", "/a.ova/", "/./a.ova", "/sub\\p.ovf",
		"/..\\outside.ova", "/a.ova\x00", "", "a.ova", "/nowhere.ova", "/%2e%2e/outside.ova", "/" + strings.Repeat("x", 5000) + ".ova",
	} {
		if r := ask(h, "GET", p); r.StatusCode != 404 {
			t.Errorf("%q: %s", p, r.Status)
		}
	}
	// What the descriptor no longer refers to is no longer served.
	write(t, filepath.Join(dir, "sub/p.ovf"), fmt.Appendf(nil, descriptor, "another.img"))
	if r := ask(h, "GET", "/sub/disk 1#.img"); r.StatusCode != 404 {
		t.Errorf("after the change: %s", r.Status)
	}
}

func TestRangesAndConditions(t *testing.T) {
	dir, disk := folder(t)
	h := handler(t, dir, Options{})
	const p = "/sub/disk 1#.img"
	head := ask(h, "HEAD", p)
	etag, when := head.Header.Get("ETag"), head.Header.Get("Last-Modified")
	if head.ContentLength != int64(len(disk)) || len(body(t, head)) != 0 {
		t.Errorf("HEAD: %v", head.Header)
	}
	for _, tc := range []struct {
		name    string
		headers []string
		status  int
		from, n int
	}{
		{"a range", []string{"Range", "bytes=10-19"}, 206, 10, 10},
		{"a suffix", []string{"Range", "bytes=-5"}, 206, len(disk) - 5, 5},
		{"to the end", []string{"Range", "bytes=299990-"}, 206, 299990, 10},
		{"past the end", []string{"Range", "bytes=300000-"}, 416, 0, 0},
		{"of this version", []string{"Range", "bytes=0-0", "If-Range", etag}, 206, 0, 1},
		{"of another version", []string{"Range", "bytes=0-0", "If-Range", `"x"`}, 200, 0, len(disk)},
		{"not changed", []string{"If-None-Match", etag}, 304, 0, 0},
		{"not changed since", []string{"If-Modified-Since", when}, 304, 0, 0},
		{"must be this one", []string{"If-Match", etag}, 200, 0, len(disk)},
		{"must be another one", []string{"If-Match", `"x"`}, 412, 0, 0},
		{"too many ranges", []string{"Range", "bytes=0-0" + strings.Repeat(",0-0", 16)}, 416, 0, 0},
	} {
		r := ask(h, "GET", p, tc.headers...)
		if r.StatusCode != tc.status {
			t.Errorf("%s: %s, want %d", tc.name, r.Status, tc.status)
		}
		if b := body(t, r); tc.n > 0 && !bytes.Equal(b, disk[tc.from:tc.from+tc.n]) {
			t.Errorf("%s: %d bytes, want %d", tc.name, len(b), tc.n)
		}
	}
	r := ask(h, "GET", p, "Range", "bytes=0-9,100-199")
	_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	parts := multipart.NewReader(r.Body, params["boundary"])
	for _, want := range [][]byte{disk[:10], disk[100:200]} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(part); !bytes.Equal(b, want) {
			t.Errorf("a part of %d bytes, want %d", len(b), len(want))
		}
	}
	for _, m := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
		if r := ask(h, m, p); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s", m, r.Status)
		}
	}
}

// TestETag changes a file in ways that its size and time do not show.
func TestETag(t *testing.T) {
	dir, _ := folder(t)
	h := handler(t, dir, Options{})
	path := filepath.Join(dir, "a.ova")
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	etag := ask(h, "HEAD", "/a.ova").Header.Get("ETag")
	if again := ask(h, "HEAD", "/a.ova").Header.Get("ETag"); again != etag {
		t.Errorf("%s, then %s", etag, again)
	}
	if runtime.GOOS != "linux" {
		t.Skip("this system does not tell when an inode was changed")
	}
	b, _ := os.ReadFile(path)
	b[len(b)-1] ^= 1
	write(t, path+".new", b)
	if err := os.Chtimes(path+".new", fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if now := ask(h, "HEAD", "/a.ova").Header.Get("ETag"); now == etag {
		t.Error("another file has the same ETag")
	}
}

// changing is a client during whose reading the file is changed.
type changing struct {
	http.ResponseWriter
	change func()
	got    int
}

func (c *changing) Write(p []byte) (int, error) {
	c.change()
	c.got += len(p)
	return c.ResponseWriter.Write(p)
}

func TestChangeWhileSending(t *testing.T) {
	dir, disk := folder(t)
	big := bytes.Repeat(disk, 5)
	write(t, filepath.Join(dir, "big.ova"), big)
	h := handler(t, dir, Options{})
	c := &changing{ResponseWriter: httptest.NewRecorder(), change: func() { write(t, filepath.Join(dir, "big.ova"), big[1:]) }}
	h.ServeHTTP(c, httptest.NewRequest("GET", "/big.ova", nil))
	if c.got >= len(big) {
		t.Errorf("all %d bytes were sent, of two files", c.got)
	}
}

func TestIndex(t *testing.T) {
	dir, disk := folder(t)
	h := handler(t, dir, Options{})
	r := ask(h, "GET", "/index.json")
	var index Index
	if err := json.Unmarshal(body(t, r), &index); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range index.Packages {
		names = append(names, p.Name)
		// Each of them is where the index says, and is as it says.
		f := ask(h, "HEAD", strings.NewReplacer("%3C", "<", "%3E", ">").Replace(p.Path))
		if f.StatusCode != 200 || f.Header.Get("ETag") != p.ETag {
			t.Errorf("%s: %s, ETag %s, want %s", p.Path, f.Status, f.Header.Get("ETag"), p.ETag)
		}
	}
	if index.APIVersion != IndexVersion || !slices.Equal(names, []string{"<b>bad.ova", "a.ova", "inner.ova", "sub/p.ovf"}) {
		t.Fatalf("%q %q", index.APIVersion, names)
	}
	bad, a, p := index.Packages[0], index.Packages[1], index.Packages[3]
	if bad.Error == "" || bad.Summary != "" || strings.Contains(bad.Error, dir) {
		t.Errorf("%+v", bad)
	}
	if a.Title != "<script>alert(1)</script>" || a.Vendor != "V" || a.Version != "1.2" || a.Capacity != 1<<20 || len(a.Files) != 2 || a.Files[1].Digest != "" {
		t.Errorf("%+v", a)
	}
	want := File{"disk 1#.img", int64(len(disk)), "SHA256", fmt.Sprintf("%x", sha256.Sum256(disk))}
	if i := slices.Index(p.Files, want); i < 0 || p.Files[0].Name != "p.ovf" || len(p.Files) != 3 || p.Size < int64(len(disk)) || p.Error != "" {
		t.Errorf("%+v", p)
	}
	sum := ask(h, "GET", p.Summary)
	var s struct{ APIVersion, Locator string }
	if b := body(t, sum); json.Unmarshal(b, &s) != nil || s.APIVersion != "ovation/inspect/v1" || s.Locator != "sub/p.ovf" || bytes.Contains(b, []byte(dir)) {
		t.Errorf("%s", b)
	}
	for _, none := range []string{"/sub/p.mf?summary", "/<b>bad.ova?summary"} {
		if r := ask(h, "GET", none); r.StatusCode == 200 {
			t.Errorf("%s: %s", none, r.Status)
		}
	}

	html := ask(h, "GET", "/")
	b := string(body(t, html))
	for _, want := range []string{`href="/a.ova"`, `href="/sub/p.ovf"`, "&lt;b&gt;bad.ova", "&lt;script&gt;alert", "1 MiB"} {
		if !strings.Contains(b, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(b, "<script>") || strings.Contains(b, "<b>bad") || strings.Contains(b, dir) {
		t.Errorf("not escaped: %s", b)
	}
	if again := ask(h, "GET", "/", "If-None-Match", html.Header.Get("ETag")); again.StatusCode != 304 {
		t.Errorf("the same page: %s", again.Status)
	}
	if err := os.Remove(filepath.Join(dir, "a.ova")); err != nil {
		t.Fatal(err)
	}
	if b := string(body(t, ask(h, "GET", "/"))); strings.Contains(b, `href="/a.ova"`) {
		t.Error("the page lists what is gone")
	}
	empty := handler(t, t.TempDir(), Options{})
	if b := body(t, ask(empty, "GET", "/index.json")); !strings.Contains(string(b), `"packages": []`) {
		t.Errorf("%s", b)
	}
}

func TestPassword(t *testing.T) {
	dir, _ := folder(t)
	var log bytes.Buffer
	h := handler(t, dir, Options{User: "u", Password: "geheim", Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, tc := range []struct {
		user, password string
		status         int
	}{{"u", "geheim", 200}, {"u", "", 401}, {"u", "geheim2", 401}, {"", "geheim", 401}, {"U", "geheim", 401}, {"", "", 401}} {
		r := httptest.NewRequest("GET", "/a.ova", nil)
		if tc.user != "" || tc.password != "" {
			r.SetBasicAuth(tc.user, tc.password)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tc.status || tc.status == 401 && w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%q %q: %d", tc.user, tc.password, w.Code)
		}
	}
	if strings.Contains(log.String(), "geheim") || !strings.Contains(log.String(), "status=401") || !strings.Contains(log.String(), "path=/a.ova") {
		t.Errorf("log: %s", &log)
	}
}

func TestLimit(t *testing.T) {
	dir, disk := folder(t)
	synctest.Test(t, func(t *testing.T) {
		h := handler(t, dir, Options{Limit: 30_000})
		began := time.Now()
		r := ask(h, "GET", "/a.ova")
		if n := len(body(t, r)); n < len(disk) {
			t.Errorf("%d bytes", n)
		}
		if took := time.Since(began); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("%d bytes at 30000 a second took %v", len(disk), took)
		}
	})
}

// start serves on a port.
func start(t *testing.T, h *Handler) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, l, nil) }()
	return l.Addr().String(), func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

func TestServe(t *testing.T) {
	dir, disk := folder(t)
	address, stop := start(t, handler(t, dir, Options{}))
	defer stop()
	r, err := http.Get("http://" + address + "/sub/disk%201%23.img")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b := body(t, r); !bytes.Equal(b, disk) {
		t.Error("the disk differs")
	}
	// Paths as no client of good manners sends them.
	for _, raw := range []string{"/../outside.ova", "/sub/../../outside.ova", "/%2e%2e/outside.ova", "/..%2foutside.ova", "/sub/%00"} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", raw)
		if b, _ := io.ReadAll(c); !bytes.HasPrefix(b, []byte("HTTP/1.0 4")) {
			t.Errorf("%s: %.40s", raw, b)
		}
		c.Close()
	}
	// A body that never ends is not waited for.
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /a.ova HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
	if b, err := io.ReadAll(c); err != nil || !bytes.Contains(b, []byte("Connection: close")) {
		t.Errorf("%.80s %v", b, err)
	}
}

// TestStall has a client that takes nothing: it is given up.
func TestStall(t *testing.T) {
	dir, _ := folder(t)
	f, err := os.Create(filepath.Join(dir, "huge.ova"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<30), f.Close()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	h := handler(t, dir, Options{Stall: 50 * time.Millisecond})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		close(ended)
	}))
	defer s.Close()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /huge.ova HTTP/1.1\r\nHost: x\r\n\r\n")
	<-ended
}

// TestManyAskForTheIndex has many ask for the index of a folder that nobody has
// looked into: each package is looked into once, and all get the same.
func TestManyAskForTheIndex(t *testing.T) {
	dir, _ := folder(t)
	h := handler(t, dir, Options{})
	index, err := handler(t, dir, Options{}).Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	texts := make([]string, 64)
	for i := range texts {
		wg.Go(func() { texts[i] = string(body(t, ask(h, "GET", "/index.json"))) })
	}
	wg.Wait()
	for _, text := range texts {
		if text != texts[0] {
			t.Fatalf("two get different indexes:\n%s\n%s", text, texts[0])
		}
	}
	if n := h.known.looks; n != len(index.Packages) {
		t.Errorf("%d packages were looked into %d times", len(index.Packages), n)
	}
}

// TestWhatIsRememberedIsBounded has packages with large descriptors.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	var p packages
	for i := range 100 {
		p.keep(fmt.Sprint(i), &known{size: 5 << 20})
		p.keep("again", &known{size: 5 << 20})
		if p.size > maxKnown || p.size < 0 || int64(len(p.m))*(5<<20) != p.size {
			t.Fatalf("%d packages of %d bytes", len(p.m), p.size)
		}
	}
}

// TestManyRequests has more at a time than are answered, as one client can ask
// that speaks HTTP/2.
func TestManyRequests(t *testing.T) {
	dir, _ := folder(t)
	h := handler(t, dir, Options{MaxClients: 1})
	first, rest := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		h.ServeHTTP(&waiting{httptest.NewRecorder(), first, rest, sync.Once{}}, httptest.NewRequest("GET", "/a.ova", nil))
	})
	<-first
	if r := ask(h, "GET", "/a.ova"); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("%s", r.Status)
	}
	close(rest)
	wg.Wait()
	if r := ask(h, "GET", "/a.ova"); r.StatusCode != 200 {
		t.Errorf("afterwards: %s", r.Status)
	}
}

// waiting is a client that takes nothing before it is told to.
type waiting struct {
	*httptest.ResponseRecorder
	first, rest chan struct{}
	once        sync.Once
}

func (w *waiting) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.first) })
	<-w.rest
	return w.ResponseRecorder.Write(p)
}
