package vsphere

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/internal/redact"
)

// target is a URI, understood:
//
//	vsphere://[USER@]HOST[:PORT][/PATH][?PARAMETERS]
//
// PATH is a place in the inventory as vSphere writes it: a datacenter (DC), a
// folder of machines (DC/vm/shop), a cluster, a host or a resource pool
// (DC/host/C1/Resources/test).
type target struct {
	user, host, port string
	path             string // without slashes at its ends
	// pool, esx and folder name what PATH does not: a resource pool, cluster or
	// vApp, a host within it, and a folder of machines.
	pool, esx, folder string
	policy            string // a storage policy's name
	thumbprint        string
	authorities       string // a file of certificates
}

// The schemes; vi is that of VMware's OVF Tool.
var schemes = []string{"vsphere", "vi"}

// IsURI says whether a string looks like a URI of this driver's, so that a
// caller who has several drivers knows whom to ask.
func IsURI(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && slices.Contains(schemes, strings.ToLower(scheme))
}

// String is the URI as it is shown and kept: without what is only about how to
// get there.
func (t *target) String() string { return t.text(false) }

// text is String, with how to get there where that is asked for.
func (t *target) text(way bool) string {
	u := url.URL{Scheme: "vsphere", Host: t.address(), Path: "/" + t.path}
	if t.path == "" {
		u.Path = ""
	}
	if t.user != "" {
		u.User = url.User(t.user)
	}
	q := url.Values{}
	for _, p := range t.parameters() {
		if *p.value != "" && (p.place || way) {
			q.Set(p.name, *p.value)
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// address is the host, with its port where one was given.
func (t *target) address() string {
	switch {
	case t.port != "":
		return net.JoinHostPort(t.host, t.port)
	case strings.Contains(t.host, ":"):
		return "[" + t.host + "]"
	}
	return t.host
}

type parameter struct {
	name  string
	value *string
	place bool // it says where machines go, and not how to get there
}

func (t *target) parameters() []parameter {
	return []parameter{
		{"pool", &t.pool, true}, {"host", &t.esx, true}, {"folder", &t.folder, true}, {"policy", &t.policy, true},
		{"thumbprint", &t.thumbprint, false}, {"cacert", &t.authorities, false},
	}
}

// parseURI understands a URI, or says what is wrong with it. No error repeats a
// password.
func parseURI(s string) (*target, error) {
	bad := func(format string, a ...any) (*target, error) {
		return nil, fmt.Errorf("vSphere URI %q: %s", redact.Host(s), fmt.Sprintf(format, a...))
	}
	u, err := redact.Parse(s)
	if err != nil {
		return bad("%v", err)
	}
	if u.Opaque != "" || u.Fragment != "" || !slices.Contains(schemes, u.Scheme) {
		return bad("it is written as vsphere://user@host/datacenter")
	}
	t := &target{host: u.Hostname(), port: u.Port(), path: strings.Trim(u.Path, "/")}
	if t.host == "" {
		return bad("it names no host: vsphere://user@host/datacenter")
	}
	if u.User != nil {
		t.user = u.User.Username()
		if _, has := u.User.Password(); has {
			return bad("other users of this machine see what stands in arguments: leave the password out, and put it into $%s or a file of credentials", PasswordEnv)
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return bad("%v", err)
	}
	var unknown []string
	known := t.parameters()
	for name, values := range query {
		i := slices.IndexFunc(known, func(p parameter) bool { return p.name == name })
		if i < 0 {
			unknown = append(unknown, name)
			continue
		}
		*known[i].value = values[len(values)-1]
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return bad("unknown parameters: %s; there are pool, host, folder, policy, thumbprint and cacert", strings.Join(unknown, ", "))
	}
	if t.thumbprint != "" {
		if _, err := parseThumbprint(t.thumbprint); err != nil {
			return bad("%v", err)
		}
	}
	return t, nil
}
