package main

import (
	"context"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ovation-project/ovation/internal/testvsphere"
)

// vsphereServer starts govmomi's simulator: vsphere [esx]. $VSPHERE is the URI
// of its cluster, or of the host, without parameters, $VCENTER that of all of it,
// which has the content library "Golden images"; $THUMBPRINT is the
// parameter that has its certificate trusted. The user and the password are in
// the environment.
func vsphereServer(ts *testscript.TestScript, neg bool, args []string) {
	esx := len(args) == 1 && args[0] == "esx"
	if neg || len(args) > 1 || len(args) == 1 && !esx {
		ts.Fatalf("usage: vsphere [esx]")
	}
	s, err := testvsphere.New(testvsphere.Options{ESX: esx})
	ts.Check(err)
	ts.Defer(s.Close)
	uri := "vsphere://" + s.Address + "/DC0/host/DC0_C0"
	if esx {
		uri = strings.TrimSuffix(uri, "/DC0/host/DC0_C0")
	}
	ts.Setenv("VSPHERE", uri)
	ts.Setenv("VCENTER", "vsphere://"+s.Address)
	if !esx {
		ts.Check(s.CreateLibrary(context.Background(), "Golden images"))
	}
	ts.Setenv("THUMBPRINT", "thumbprint="+s.Thumbprint)
	ts.Setenv("OVATION_VSPHERE_USER", testvsphere.User)
	ts.Setenv("OVATION_VSPHERE_PASSWORD", testvsphere.Password)
}
