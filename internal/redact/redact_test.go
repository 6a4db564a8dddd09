package redact

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	for uri, want := range map[string]string{
		"qemu:///system":                 "qemu:///system",
		"qemu+ssh://u:hunter2@h/system":  "qemu+ssh://u@h/system",
		"qemu+ssh://u:hun@ter2@h/system": "qemu+ssh://u@h/system",
		"vsphere://u:hun/ter2@vc/DC":     "vsphere://vc/DC",
		"vsphere://u:hunter%2@vc":        "vsphere://u@vc",
		"vsphere://u@vc:port/DC?pool":    "vsphere://u@vc:port/DC?pool",
		"no address":                     "no address",
	} {
		if got := Host(uri); got != want {
			t.Errorf("%s is shown as %s, not %s", uri, got, want)
		}
	}
}

func TestCause(t *testing.T) {
	if _, err := Parse("http://u:hunter2@h:port/"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Parse: %v", err)
	}
	for address, ok := range map[string]bool{"qemu://[::1]:1/system": true, "qemu://::0": false, "vsphere://a:b:1/": false} {
		if _, err := Parse(address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	reason := errors.New("reason")
	if err := Cause(&url.Error{Op: http.MethodGet, URL: "http://u:hunter2@h/", Err: reason}); err != reason {
		t.Errorf("got %v", err)
	}
	if err := Cause(reason); err != reason {
		t.Errorf("got %v", err)
	}
	if err := Cause(nil); err != nil {
		t.Errorf("got %v", err)
	}
}
