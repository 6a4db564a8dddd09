package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/libvirt"
	"github.com/ovation-project/ovation/hypervisor/vsphere"
)

// hostScheme is a kind of host that keeps machines, by how its URIs begin.
type hostScheme struct {
	// example is a URI as people write it.
	example string
	is      func(uri string) bool
	open    func(ctx context.Context, a *app, uri string) (hypervisor.Host, error)
}

var hostSchemes = []hostScheme{
	{"qemu:///system", libvirt.IsURI, func(ctx context.Context, a *app, uri string) (hypervisor.Host, error) {
		return libvirt.Open(ctx, uri, libvirt.Options{Log: a.log})
	}},
	{"vsphere://user@host/datacenter", vsphere.IsURI, func(ctx context.Context, a *app, uri string) (hypervisor.Host, error) {
		return vsphere.Open(ctx, uri, a.vsphereOptions())
	}},
}

// openHost connects to the host that a URI names.
func (a *app) openHost(ctx context.Context, uri string) (hypervisor.Host, error) {
	var examples []string
	for _, s := range hostSchemes {
		if s.is(uri) {
			return s.open(ctx, a, uri)
		}
		examples = append(examples, s.example)
	}
	return nil, usagef("%q is not the URI of a host; one is %s", withoutSecrets(uri), strings.Join(examples, " or "))
}

// cutMachine takes the last part of a URI's path, which names a machine or a
// deployment, from the URI of its host: qemu:///system/web is web on
// qemu:///system.
func cutMachine(ref string) (host, name string, err error) {
	bad := usagef("%q does not name a machine: write it behind the URI of its host, as in qemu:///system/web", withoutSecrets(ref))
	scheme, rest, ok := strings.Cut(ref, "://")
	if !ok {
		return "", "", bad
	}
	rest, query, has := strings.Cut(rest, "?")
	i := strings.LastIndex(rest, "/")
	if i < 0 {
		return "", "", bad
	}
	name, err = url.PathUnescape(rest[i+1:])
	if err != nil || name == "" {
		return "", "", bad
	}
	host = fmt.Sprintf("%s://%s", scheme, rest[:i])
	if libvirt.IsURI(ref) && !strings.Contains(rest[:i], "/") {
		return "", "", bad // only the host
	}
	if has {
		host += "?" + query
	}
	return host, name, nil
}
