package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// store serves the script's folder as an object store does: store. Its address
// is in $STORE, by TLS of an authority that is in ca.pem. What is below
//
//	/basic   takes the name me and the password hunter2
//	/bearer  takes the token hunter2
//	/signed  takes GET alone, where the address has ?X-Amz-Signature=hunter2
//	/to      leads to the same below /signed, with the signature
//	/h2      is for HTTP/2 alone
func store(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: store")
	}
	files := http.FileServer(http.Dir(ts.Getenv("WORK")))
	mux := http.NewServeMux()
	door := func(prefix string, code int, open func(*http.Request) bool) {
		mux.Handle(prefix+"/", http.StripPrefix(prefix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !open(r) {
				http.Error(w, http.StatusText(code), code)
				return
			}
			files.ServeHTTP(w, r)
		})))
	}
	door("/basic", http.StatusUnauthorized, func(r *http.Request) bool {
		name, password, ok := r.BasicAuth()
		return ok && name == "me" && password == "hunter2"
	})
	door("/bearer", http.StatusUnauthorized, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer hunter2" })
	door("/signed", http.StatusForbidden, func(r *http.Request) bool {
		return r.Method == http.MethodGet && r.URL.Query().Get("X-Amz-Signature") == "hunter2"
	})
	door("/h2", http.StatusHTTPVersionNotSupported, func(r *http.Request) bool { return r.ProtoMajor == 2 })
	mux.HandleFunc("/to/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/signed"+strings.TrimPrefix(r.URL.Path, "/to")+"?X-Amz-Signature=hunter2", http.StatusFound)
	})
	s := httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.StartTLS()
	ts.Defer(s.Close)
	ts.Setenv("STORE", s.URL)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), ca, 0o666))
}

// proxy is the only way to example.com: proxy URL TLSURL. What is asked of
// http://example.com comes from the one, of https://example.com from the other.
// It lets in who gives the name me and the password hunter2, is at $PROXY, less
// those, and writes what it was asked for to the file proxied.
func proxy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: proxy URL TLSURL")
	}
	plain, err := url.Parse(args[0])
	ts.Check(err)
	tls, err := url.Parse(args[1])
	ts.Check(err)
	asked, err := os.Create(ts.MkAbs("proxied"))
	ts.Check(err)
	ts.Defer(func() { asked.Close() })
	var mu sync.Mutex
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(plain) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic bWU6aHVudGVyMg==" {
			http.Error(w, "who are you?", http.StatusProxyAuthRequired)
			return
		}
		mu.Lock()
		fmt.Fprintln(asked, r.Method, r.Host)
		mu.Unlock()
		if r.Method != http.MethodConnect {
			forward.ServeHTTP(w, r)
			return
		}
		to, err := net.Dial("tcp", tls.Host)
		if err != nil || r.Host != "example.com:443" {
			http.Error(w, "no such host", http.StatusBadGateway)
			return
		}
		defer to.Close()
		w.WriteHeader(http.StatusOK)
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		go func() { _, _ = io.Copy(to, from) }()
		_, _ = io.Copy(from, to)
	}))
	ts.Defer(s.Close)
	ts.Setenv("PROXY", strings.TrimPrefix(s.URL, "http://"))
}
