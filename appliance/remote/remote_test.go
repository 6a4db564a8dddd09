package remote

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func get(t *testing.T, c *http.Client, address string) (string, error) {
	t.Helper()
	resp, err := c.Get(address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func client(t *testing.T, opt Options) *http.Client {
	t.Helper()
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestCertificateAuthorityAndHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	if _, err := get(t, client(t, Options{}), s.URL); err == nil {
		t.Error("a server is believed that nobody vouches for")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o666); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, client(t, Options{CAFile: ca}), s.URL); err != nil || got != "HTTP/2.0" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{filepath.Join(t.TempDir(), "none"), os.Args[0]} {
		if _, err := New(Options{CAFile: bad}); err == nil {
			t.Errorf("%s is taken for authorities", bad)
		}
	}
}

// echo tells what credentials and referrer it was given.
func echo(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		fmt.Fprintf(w, "%s|%s", r.Header.Get("Authorization"), r.Header.Get("Referer"))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestCredentialsGoToTheirHostOnly(t *testing.T) {
	one, two := echo(t), echo(t)
	host := strings.TrimPrefix(one.URL, "http://")
	for _, c := range []struct{ entry, want string }{
		{"machine " + host + " token abc", "Bearer abc|"},
		{"machine " + host + "\n\tlogin u password p\n", "Basic dTpw|"},
		{"machine 127.0.0.1:1 token abc", "|"},
	} {
		credentials, err := ParseCredentials(c.entry)
		if err != nil {
			t.Fatal(err)
		}
		h := client(t, Options{Credentials: credentials})
		if got, err := get(t, h, one.URL); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", c.entry, got, err)
		}
		// Another port is another server.
		for _, via := range []string{two.URL, one.URL + "/?secret=1&to=" + url.QueryEscape(two.URL)} {
			if got, err := get(t, h, via); err != nil || got != "|" {
				t.Errorf("%s: by %s: %q, %v", c.entry, via, got, err)
			}
		}
	}
	// A name in the URL goes no further either.
	if got, err := get(t, client(t, Options{}), strings.Replace(one.URL, "//", "//u:p@", 1)+"/?to="+url.QueryEscape(two.URL)); err != nil || got != "|" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCredentials(t *testing.T) {
	c, err := ParseCredentials(`# a comment
machine a.example login u password p machine b.example:8443 token t
machine http://nas.example token n
macdef init
machine c.example token m

machine localhost token l`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		url string
		ok  bool
	}{
		{"https://a.example/x", true}, {"https://A.EXAMPLE:9/x", true}, {"http://a.example/x", false},
		{"https://b.example:8443/", true}, {"https://b.example/", false}, {"https://x.b.example:8443/", false},
		{"http://nas.example/", true}, {"https://c.example/", false}, {"http://localhost:80/", true},
	} {
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.lookup(u); ok != test.ok {
			t.Errorf("%s: %v", test.url, ok)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(s, "token") || strings.Contains(s, "password") || strings.Contains(s, "example") {
		t.Errorf("they tell themselves: %s", s)
	}
	for _, bad := range []string{"login hunter2", "machine a", "machine a hunter2 x", "default login hunter2 password x",
		"machine a login hunter2 token x", "machine a login", "machine / token hunter2"} {
		if _, err := ParseCredentials(bad); !errors.Is(err, ErrCredentials) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := ReadCredentials(filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrCredentials) || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzParseCredentials(f *testing.F) {
	f.Add("machine a login b password c\n")
	f.Add("machine http://[::1]:80 token x # y")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCredentials(s)
		for _, e := range c.entries {
			if err == nil && (e.host == "" || e.login == "" && e.token == "") {
				t.Fatalf("%q: an entry for nobody", s)
			}
		}
	})
}

func TestLimit(t *testing.T) {
	const size = 200 << 10
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) }))
	t.Cleanup(s.Close)
	start := time.Now()
	got, err := get(t, client(t, Options{Limit: 1 << 20}), s.URL)
	if err != nil || len(got) != size {
		t.Fatal(len(got), err)
	}
	if d := time.Since(start); d < 100*time.Millisecond {
		t.Errorf("%d bytes at 1 MiB/s took %v", size, d)
	}
}

func TestRedirects(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "there") }))
	t.Cleanup(target.Close)
	from := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusFound))
	t.Cleanup(from.Close)
	if got, err := get(t, client(t, Options{}), from.URL); err != nil || got != "there" {
		t.Errorf("from one local server to another: %q, %v", got, err)
	}
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"https://93.184.216.34/", "https://93.184.216.35/", true},
		{"http://93.184.216.34/", "https://93.184.216.35/", true},
		{"https://93.184.216.34/", "http://93.184.216.35/", false},
		{"http://93.184.216.34/", "http://127.0.0.1/", false},
		{"http://93.184.216.34/", "http://[::1]/", false},
		{"http://93.184.216.34/", "http://169.254.169.254/latest", false},
		{"http://93.184.216.34/", "http://10.0.0.1/", false},
		{"http://93.184.216.34/", "http://100.64.0.1/", false},
		{"http://93.184.216.34/", "http://[::ffff:10.0.0.1]/", false},
		{"http://93.184.216.34/", "http://[64:ff9b::a00:1]/", false},
		{"http://93.184.216.34/", "http://[fd00::1]/", false},
		{"http://93.184.216.34/", "http://[2002:7f00:1::]/", false},
		{"http://93.184.216.34/", "http://[2002:5db8:d822::]/", true},
		{"http://93.184.216.34/", "http://[::10.0.0.1]/", false},
		{"http://93.184.216.34/", "http://[::93.184.216.34]/", true},
		{"http://93.184.216.34/", "http://[::]/", false},
		{"http://93.184.216.34/", "http://0.0.0.0/", false},
		{"http://93.184.216.34/", "http://[fec0::1]/", false},
		{"http://93.184.216.34/", "http://198.18.0.1/", false},
		{"http://93.184.216.34/", "http://255.255.255.255/", false},
		{"http://127.0.0.1/", "http://127.0.0.1:81/", true},
		{"http://93.184.216.34/", "file:///etc/passwd", false},
	} {
		from, err := http.NewRequest("GET", c.from, nil)
		if err != nil {
			t.Fatal(err)
		}
		to, err := http.NewRequest("GET", c.to, nil)
		if err != nil {
			t.Fatal(err)
		}
		var refused *RedirectError
		if err := checkRedirect(to, []*http.Request{from}); (err == nil) != c.ok || err != nil && !errors.As(err, &refused) {
			t.Errorf("from %s to %s: %v", c.from, c.to, err)
		}
	}
}

// A name that resolved to a public address when it was judged does not get a
// connection to a private one.
func TestRedirectByNameIsJudgedAgain(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") }))
	t.Cleanup(s.Close)
	first, err := http.NewRequest("GET", "http://93.184.216.34/", nil)
	if err != nil {
		t.Fatal(err)
	}
	next, err := http.NewRequestWithContext(t.Context(), "GET", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	next.Response = &http.Response{Request: first}
	resp, err := client(t, Options{}).Transport.RoundTrip(next)
	if err == nil {
		resp.Body.Close()
	}
	var refused *RedirectError
	if !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
}

// TestWhereARedirectComesFrom has a name that leads to this machine by now, and
// led to a public address when the redirect came from there.
func TestWhereARedirectComesFrom(t *testing.T) {
	for address, ok := range map[string]bool{"93.184.216.34": false, "127.0.0.1": true} {
		p := &peer{addr: netip.MustParseAddr(address)}
		first, err := http.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, p), "GET", "http://localhost/", nil)
		if err != nil {
			t.Fatal(err)
		}
		to, err := http.NewRequest("GET", "http://127.0.0.1/", nil)
		if err != nil {
			t.Fatal(err)
		}
		to.Response = &http.Response{Request: first}
		var refused *RedirectError
		if err := checkRedirect(to, []*http.Request{first}); (err == nil) != ok || err != nil && !errors.As(err, &refused) {
			t.Errorf("from localhost at %s: %v", address, err)
		}
	}
	// What it is judged by is noted where it happens.
	var first *http.Request
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "there") }))
	t.Cleanup(target.Close)
	from := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusFound))
	t.Cleanup(from.Close)
	c := client(t, Options{})
	judge := c.CheckRedirect
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		first = original(req)
		return judge(req, via)
	}
	if got, err := get(t, c, from.URL); err != nil || got != "there" {
		t.Fatal(got, err)
	}
	if p, ok := first.Context().Value(peerKey{}).(*peer); !ok || p.addr != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("the first request was answered by %+v", p)
	}
}

// TestNamesStayPublic has a name that was a public address's, and is this
// machine's when the next connection is made.
func TestNamesStayPublic(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d := &dialer{public: map[string]bool{}}
	for range 2 { // a name of this machine's from the start
		c, err := d.DialContext(t.Context(), "tcp4", "localhost:"+port)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	d.public["localhost"] = true
	c, err := d.DialContext(t.Context(), "tcp4", "localhost:"+port)
	if err == nil {
		c.Close()
	}
	var refused *RedirectError
	if !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
}
