package vsphere

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testvsphere"
)

func TestURI(t *testing.T) {
	for in, want := range map[string]string{
		"vsphere://vc.example.org":                                                  "vsphere://vc.example.org",
		"vi://vc.example.org/DC1/":                                                  "vsphere://vc.example.org/DC1",
		"vsphere://administrator@vsphere.local@vc:8443/DC1/vm/a%20b":                "vsphere://administrator%40vsphere.local@vc:8443/DC1/vm/a%20b",
		"vsphere://u@[2001:db8::1]/DC?folder=f&pool=p/q&host=h&policy=gold":         "vsphere://u@[2001:db8::1]/DC?folder=f&host=h&policy=gold&pool=p%2Fq",
		"vsphere://u@vc/DC?cacert=x&thumbprint=" + strings.Repeat("0a:", 31) + "0b": "vsphere://u@vc/DC",
	} {
		got, err := parseURI(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got.String() != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
		if again, err := parseURI(want); err != nil || again.String() != want {
			t.Errorf("%s again: %v", want, err)
		}
	}
	for in, want := range map[string]string{
		"vsphere://u:hunter2@vc/DC":           "password",
		"vsphere://u:hun/ter2@vc/DC":          "vSphere URI",
		"vsphere:///DC":                       "no host",
		"vsphere:vc":                          "written as",
		"https://vc/DC":                       "written as",
		"vsphere://vc/DC?colour=red":          "colour",
		"vsphere://vc/DC?thumbprint=no":       "SHA-256",
		"vsphere://vc/DC#x":                   "written as",
		"vsphere://u:hunter2@vc/%zz":          "vSphere URI",
		"vsphere://u:hunter2@vc:port/DC?pool": "vSphere URI",
	} {
		_, err := parseURI(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "ter2")) {
			t.Errorf("%s: the password is in: %v", in, err)
		}
	}
	if !IsURI("vi://x") || IsURI("qemu:///system") || IsURI("vsphere") {
		t.Error("IsURI")
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"vsphere://u@h:1/a/b?pool=x", "vi://h", "vsphere://u:p@h", "vsphere://[::1]/%41"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseURI(s)
		if err != nil {
			return
		}
		again, err := parseURI(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("%q is %q, and that %v", s, u, err)
		}
	})
}

func TestFromEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	check(t, os.WriteFile(file, []byte("from file\r\nsecond line\n"), 0o600))
	for name, c := range map[string]struct {
		env        map[string]string
		user, want string // "user/password"
	}{
		"nothing":         {nil, "u", ""},
		"no user":         {map[string]string{PasswordEnv: "p"}, "", ""},
		"variables":       {map[string]string{UserEnv: "u", PasswordEnv: "p"}, "", "u/p"},
		"URI's user":      {map[string]string{UserEnv: "u", PasswordEnv: "p"}, "w", "w/p"},
		"file":            {map[string]string{PasswordFileEnv: file}, "u", "u/from file"},
		"govc":            {map[string]string{"GOVC_URL": "https://g:h@vc.example.org/sdk"}, "", "g/h"},
		"govc, apart":     {map[string]string{"GOVC_URL": "vc.example.org", "GOVC_USERNAME": "g", "GOVC_PASSWORD": "h"}, "", "g/h"},
		"govc, elsewhere": {map[string]string{"GOVC_URL": "other.example.org", "GOVC_USERNAME": "g", "GOVC_PASSWORD": "h"}, "", ""},
		"govc, nowhere":   {map[string]string{"GOVC_USERNAME": "g", "GOVC_PASSWORD": "h"}, "", ""},
		"govc's other":    {map[string]string{"GOVC_URL": "https://g:h@vc.example.org/sdk"}, "u", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{UserEnv, PasswordEnv, PasswordFileEnv, "GOVC_URL", "GOVC_USERNAME", "GOVC_PASSWORD"} {
				t.Setenv(v, c.env[v])
			}
			got, err := FromEnvironment(t.Context(), "vc.example.org", c.user)
			if c.want == "" {
				if !errors.Is(err, ErrNoCredentials) {
					t.Errorf("%v", err)
				}
				return
			}
			check(t, err)
			if got.User+"/"+got.Password != c.want {
				t.Errorf("got another: %s", got)
			}
		})
	}
}

// TestOpenRefused has neither the wrong server believed nor the password told.
func TestOpenRefused(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{ESX: true})
	address := "vsphere://" + s.Address
	wrong := func(context.Context, string, string) (Credentials, error) {
		return Credentials{User: testvsphere.User, Password: "hunter2"}, nil
	}
	for name, c := range map[string]struct {
		uri   string
		login Login
		want  []string
	}{
		"unknown authority": {address, nil, []string{"not trusted", "thumbprint"}},
		"another's":         {address + "?thumbprint=" + strings.Repeat("00", 32), nil, []string{"thumbprint was given"}},
		"wrong password":    {s.URI(""), wrong, []string{"does not accept", testvsphere.User}},
		"nobody there":      {"vsphere://127.0.0.1:1", nil, []string{"127.0.0.1:1"}},
	} {
		_, err := Open(t.Context(), c.uri, Options{Login: c.login})
		if !errors.Is(err, hypervisor.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in: %v", name, w, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.Calls()); n > 0 && s.Calls()[n-1] != "Login" {
		t.Errorf("what was asked last is %s", s.Calls()[n-1])
	}
	h := open(t, address+"?cacert="+s.CAFile)
	if strings.Contains(h.URI(), "cacert") {
		t.Error(h.URI())
	}
	if _, err := Open(t.Context(), address+"?cacert=/nowhere", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestPlaces finds what URIs name.
func TestPlaces(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{Model: func(m *simulator.Model) { m.Pool = 1 }})
	for place, want := range map[string]hypervisor.Placement{
		"DC0/host/DC0_C0":                      {Datacenter: "DC0", Folder: "vm", Pool: "DC0_C0"},
		"DC0/host/DC0_H0":                      {Datacenter: "DC0", Folder: "vm", Pool: "DC0_H0"},
		"DC0/host/DC0_C0/DC0_C0_H1":            {Datacenter: "DC0", Folder: "vm", Pool: "DC0_C0", Host: "DC0_C0_H1"},
		"DC0/host/DC0_C0/Resources/DC0_C0_RP1": {Datacenter: "DC0", Folder: "vm", Pool: "DC0_C0/DC0_C0_RP1"},
		"DC0?pool=DC0_H0":                      {Datacenter: "DC0", Folder: "vm", Pool: "DC0_H0"},
		"DC0?pool=DC0_C0_RP1":                  {Datacenter: "DC0", Folder: "vm", Pool: "DC0_C0/DC0_C0_RP1"},
		"DC0?host=DC0_C0_H2":                   {Datacenter: "DC0", Folder: "vm", Pool: "DC0_C0", Host: "DC0_C0_H2"},
		"?pool=DC0_C0":                         {Datacenter: "DC0", Folder: "vm", Pool: "DC0_C0"},
		"DC0/vm?pool=DC0_C0":                   {Datacenter: "DC0", Folder: "vm", Pool: "DC0_C0"},
		"host/DC0_C0":                          {Datacenter: "DC0", Folder: "vm", Pool: "DC0_C0"},
		"DC0_C0?folder=vm":                     {Datacenter: "DC0", Folder: "vm", Pool: "DC0_C0"},
	} {
		path, parameters, _ := strings.Cut(place, "?")
		h := open(t, s.URI(path, parameters))
		d, err := h.destination(t.Context())
		if err != nil {
			t.Errorf("%s: %v", place, err)
			continue
		}
		if d.names != want {
			t.Errorf("%s is %+v, want %+v", place, d.names, want)
		}
	}
	for place, want := range map[string]string{"DC9": "DC0", "DC0?pool=none": "DC0_C0", "DC0?folder=none": "vm", "DC0/datastore/LocalDS_0": "no place", "DC0": "DC0_C0, DC0_H0"} {
		path, parameters, _ := strings.Cut(place, "?")
		_, err := open(t, s.URI(path, parameters)).destination(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", place, err, want)
		}
	}
}
