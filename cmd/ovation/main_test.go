package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ovation": func() {
		hostSchemes = append(hostSchemes, memoryHosts)
		os.Exit(run())
	}})
}

// memoryHosts are hosts that end with the program, and keep nothing until then
// but in memory: memory: has one network, memory:several three.
var memoryHosts = hostScheme{"memory:", func(uri string) bool { return strings.HasPrefix(uri, "memory:") },
	func(_ context.Context, _ *app, uri string) (hypervisor.Host, error) {
		h := drivertest.NewMemory()
		h.Name = uri
		if uri == "memory:several" {
			h.NetworkList = append(h.NetworkList, hypervisor.Network{Name: "lan", Kind: "bridge", Active: true},
				hypervisor.Network{Name: "idle", Kind: "network"}, hypervisor.Network{Name: "dmz", Kind: "network", Active: true})
		}
		return h, nil
	}}

// TestScripts runs the command lines in testdata/script, one file a topic.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "guest": guest, "manifest": writeManifest, "empty": empty, "needtool": needTool, "webserver": webServer,
			"store": store, "proxy": proxy, "vsphere": vsphereServer,
		},
	})
}

// webServer serves the script's folder: webserver. Its URL is in $URL, without
// a slash at the end; what is below $URL/whole is sent as a whole only.
func webServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: webserver")
	}
	mux := http.NewServeMux()
	files := http.FileServer(http.Dir(ts.Getenv("WORK")))
	mux.Handle("/", files)
	mux.Handle("/whole/", http.StripPrefix("/whole", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		files.ServeHTTP(noRanges{w}, r)
	})))
	s := httptest.NewServer(mux)
	ts.Defer(s.Close)
	ts.Setenv("URL", s.URL)
}

// noRanges leaves out that a server could send parts.
type noRanges struct{ http.ResponseWriter }

func (w noRanges) WriteHeader(code int) {
	w.Header().Del("Accept-Ranges")
	w.ResponseWriter.WriteHeader(code)
}

// exits runs a command and wants this exit code: exits 3 ovation verify x.ova
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
