package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/ovation-project/ovation/hypervisor/vsphere"
)

// vsphereOptions are those for hosts that are vSphere's.
func (a *app) vsphereOptions() vsphere.Options {
	return vsphere.Options{Login: a.vsphereLogin, UserAgent: "ovation/" + programVersion(), Log: a.log}
}

// vsphereLogin takes credentials from the environment, from the file of
// credentials, or asks for the password.
func (a *app) vsphereLogin(ctx context.Context, host, user string) (vsphere.Credentials, error) {
	c, err := vsphere.FromEnvironment(ctx, host, user)
	if !errors.Is(err, vsphere.ErrNoCredentials) {
		return c, err
	}
	known, fileErr := a.network.known()
	if fileErr != nil {
		return c, usageError{fileErr}
	}
	if name, password, ok := known.Login(host, c.User); ok {
		return vsphere.Credentials{User: name, Password: password}, nil
	}
	in, ok := a.stdin.(*os.File)
	if !ok || c.User == "" || !term.IsTerminal(int(in.Fd())) {
		return c, err
	}
	fmt.Fprintf(os.Stderr, "Password of %s at %s: ", c.User, host)
	defer fmt.Fprintln(os.Stderr)
	password, err := term.ReadPassword(int(in.Fd()))
	c.Password = string(password)
	return c, err
}
