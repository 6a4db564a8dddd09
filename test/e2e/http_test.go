package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
)

// counting serves a folder and counts requests and bytes.
type counting struct {
	http.Handler
	mu       sync.Mutex
	requests int
	bytes    int64
}

func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests++
	c.mu.Unlock()
	c.Handler.ServeHTTP(&countingWriter{w, c}, r)
}

func (c *counting) reset() (requests int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	requests, bytes = c.requests, c.bytes
	c.requests, c.bytes = 0, 0
	return requests, bytes
}

type countingWriter struct {
	http.ResponseWriter
	c *counting
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.c.mu.Lock()
	w.c.bytes += int64(n)
	w.c.mu.Unlock()
	return n, err
}

// TestHTTP works on an OVA and on a descriptor that lie on a web server.
func TestHTTP(t *testing.T) {
	t.Parallel()
	p := build(t, small)
	root := filepath.Dir(p.OVA)
	c := &counting{Handler: http.FileServer(http.Dir(root))}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	u := newUser(t)

	for _, url := range []string{server.URL + "/small.ova", server.URL + "/files/small.ovf"} {
		c.reset()
		u.succeed("inspect", "--json", url)
		requests, bytes := c.reset()
		if requests > 10 || bytes > 1<<20 {
			t.Errorf("inspect %s took %d requests and %d bytes", url, requests, bytes)
		}
		u.succeed("verify", url)
	}

	// What is inspected there is what is inspected here.
	there, here := u.succeed("inspect", "--json", server.URL+"/small.ova"), u.succeed("inspect", "--json", p.OVA)
	if a, b := withoutLocator(t, there.stdout), withoutLocator(t, here.stdout); a != b {
		t.Errorf("over HTTP:\n%s\nfrom the disk:\n%s", a, b)
	}

	u.onlyLeft()
}

// withoutLocator gives a JSON result without where it was read from.
func withoutLocator(t *testing.T, text string) string {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	delete(v, "locator")
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
