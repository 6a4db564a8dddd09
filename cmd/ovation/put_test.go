package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPut sends packages to a URL as object stores sign them: the signature is in
// nothing that is said, what fails leaves nothing there, and nothing is replaced
// unless it is asked for.
func TestPut(t *testing.T) {
	stored := map[string][]byte{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || r.URL.Query().Get("X-Amz-Signature") != "hidden" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.Header.Get("If-None-Match") == "*" && stored[r.URL.Path] != nil {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		// S3 takes no chunked transfers.
		if r.ContentLength < 0 {
			w.WriteHeader(http.StatusLengthRequired)
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil || int64(len(b)) != r.ContentLength {
			return // it was broken off: nothing is stored
		}
		stored[r.URL.Path] = b
	}))
	defer server.Close()
	dir := t.TempDir()
	url := server.URL + "/bucket/shop.ova?X-Amz-Signature=hidden"
	write := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("disk.raw", append([]byte("a disk"), make([]byte, 1<<20-6)...))
	yaml := write("shop.yaml", []byte("name: shop\ndisks: [{id: d, source: disk.raw}]\nmachine:\n  id: shop\n  hardware: {cpus: 1, memory: 1GiB, disks: [d]}\n"))
	got := func() string {
		t.Helper()
		return write("got.ova", stored["/bucket/shop.ova"])
	}
	fails := func(says string, args ...string) {
		t.Helper()
		code, out, said := command(t, args...)
		if code != 1 || !strings.Contains(said, says) || strings.Contains(out+said, "hidden") {
			t.Errorf("ovation %v: %d\n%s%s", args, code, out, said)
		}
	}

	if out := ok(t, "build", yaml, "-o", url); strings.Contains(out, "hidden") || !strings.Contains(out, "/bucket/shop.ova: 3 files") {
		t.Errorf("it says %s", out)
	}
	ok(t, "verify", "-q", got())
	ok(t, "lint", got())
	fails("there is something already", "build", yaml, "-o", url)
	first := got()
	here := filepath.Join(dir, "here.ova")
	ok(t, "build", "-q", yaml, "-o", here)
	ok(t, "diff", here, first)
	ok(t, "edit", here, "--cpus", "4", "-o", url, "-f")
	ok(t, "verify", "-q", got())
	if code, out, _ := command(t, "diff", here, got()); code != 1 || !strings.Contains(out, "quantity: 1 -> 4") {
		t.Errorf("edited and sent, it differs by %s", out)
	}
	fails("403 Forbidden", "build", yaml, "-o", server.URL+"/bucket/other.ova?X-Amz-Signature=wrong-hidden")

	// What is altered is found while it is sent, and never is there.
	b, err := os.ReadFile(here)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	altered := write("altered.ova", b)
	before := len(stored)
	if code, _, said := command(t, "pack", altered, "-o", server.URL+"/bucket/altered.ova?X-Amz-Signature=hidden"); code != 4 || !strings.Contains(said, "altered") || len(stored) != before {
		t.Errorf("an altered package: %d %s, %d are stored", code, said, len(stored))
	}
}
