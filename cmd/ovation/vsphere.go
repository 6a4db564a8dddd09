package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/vsphere"
)

// vsphereOptions are those for hosts that are vSphere's.
func (a *app) vsphereOptions() vsphere.Options {
	return vsphere.Options{Login: a.vsphereLogin, Authorities: a.network.cacert, UserAgent: "ovation/" + programVersion(), Log: a.log}
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

// libraryItem is an item of a content library as a place of a package.
type libraryItem struct {
	*vsphere.Item
	host *vsphere.Host
}

// List gives the item's files.
func (l libraryItem) List(context.Context) ([]appliance.Entry, error) {
	var out []appliance.Entry
	for _, f := range l.Files() {
		out = append(out, appliance.Entry{Name: f.Name, Size: f.Size})
	}
	return out, nil
}

// Close logs out.
func (l libraryItem) Close() error { return errors.Join(l.Item.Close(), l.host.Close()) }

// openPlace is an appliance.OpenPlace for items of content libraries.
func (a *app) openPlace(ctx context.Context, locator string) (appliance.Place, string, error) {
	if !vsphere.IsURI(locator) {
		return nil, "", nil
	}
	uri, library, name, err := vsphere.SplitLibrary(locator)
	if err != nil {
		return nil, "", usageError{err}
	}
	host, err := vsphere.Open(ctx, uri, a.vsphereOptions())
	if err != nil {
		return nil, "", err
	}
	item, err := host.OpenItem(ctx, library, name)
	if err != nil {
		return nil, "", errors.Join(err, host.Close())
	}
	return libraryItem{item, host}, vsphere.Shown(locator), nil
}

// toLibrary has a package written to a content library.
func (a *app) toLibrary(f *packageFlags) (build.Output, error) {
	uri, library, name, err := vsphere.SplitLibrary(f.output)
	if err != nil {
		return nil, usageError{fmt.Errorf("--output: %w", err)}
	}
	return func(ctx context.Context, p *pack.Package) (stored []pack.Stored, err error) {
		host, err := vsphere.Open(ctx, uri, a.vsphereOptions())
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, host.Close()) }()
		err = host.Publish(ctx, library, name, vsphere.PublishOptions{Replace: f.force}, func(put func(context.Context, string, int64, io.Reader) error) (err error) {
			stored, err = p.Each(ctx, put, a.packOptions(f))
			return err
		})
		if errors.Is(err, hypervisor.ErrExists) {
			err = fmt.Errorf("%w; --force replaces it", err)
		}
		return stored, err
	}, nil
}
