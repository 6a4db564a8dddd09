package faultserver

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// The faults are what they are said to be: else tests that survive them show
// nothing.
func TestFaults(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("0123456789"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := New(t, dir)
	get := func() (status int, body, etag string, err error) {
		t.Helper()
		req, err := http.NewRequest("GET", s.URL("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", "bytes=2-5")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "", "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), resp.Header.Get("Etag"), err
	}
	_, _, first, _ := get()
	for _, c := range []struct {
		name   string
		fault  Faults
		status int
		body   string
		broken bool
		same   bool // ETag
	}{
		{"good", Faults{}, 206, "2345", false, true},
		{"status", Faults{Status: 503}, 503, "Service Unavailable\n", false, false},
		{"no ranges", Faults{NoRanges: true}, 200, "0123456789", false, true},
		{"shift", Faults{Shift: 1}, 206, "3456", false, true},
		{"flip", Faults{Flip: "x", FlipAt: 3}, 206, "2245", false, true},
		{"version", Faults{Version: "2"}, 206, "2345", false, false},
		{"no validators", Faults{NoValidators: true}, 206, "2345", false, false},
		{"drop", Faults{Drop: 1}, 0, "", true, true},
	} {
		s.Change(func(f *Faults) { *f = c.fault })
		status, body, etag, err := get()
		if (err != nil) != c.broken || !c.broken && (status != c.status || body != c.body || (etag == first) != c.same) {
			t.Errorf("%s: %d %q %s %v", c.name, status, body, etag, err)
		}
	}
	s.Change(func(f *Faults) { *f = Faults{} })
	s.Kill()
	if _, _, _, err := get(); err == nil {
		t.Error("killed, and answers")
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, body, _, err := get(); err != nil || body != "2345" {
		t.Errorf("restarted: %q, %v", body, err)
	}
}
