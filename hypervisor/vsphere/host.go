// Package vsphere keeps machines on VMware vSphere: on a vCenter Server, or on
// a single ESXi host. It speaks their Web services API by govmomi.
//
// Packages go there by the host's own OVF manager (hypervisor.Importer): it
// reads the descriptor, makes the machine, and takes the disks as streams. What
// this program has to know of a machine later is in its extraConfig, which
// guests do not see.
package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"sync"
	"time"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/redact"
)

const driverName = "vsphere"

// keepAlive is well below the minutes after which a lease ends that hears
// nothing.
const keepAlive = 5 * time.Second

// Options say how a host is used.
type Options struct {
	// Login gives the credentials; nil is FromEnvironment. It is asked once,
	// and again where they are not accepted any more.
	Login Login
	// Authorities is a file of certificates in PEM that are trusted beside the
	// system's, where the URI names none; "" is none.
	Authorities string
	// UserAgent is what the client calls itself; "" is govmomi's own name.
	UserAgent string
	// Log gets what is done; nil is nowhere.
	Log *slog.Logger
}

// Host is a vCenter Server or an ESXi host.
type Host struct {
	target *target
	opt    Options
	log    *slog.Logger
	dialer *dialer
	client *vim25.Client
	http   *http.Client // of the client, for files
	// keepAlive is how often a lease is told how far it is.
	keepAlive time.Duration

	login      sync.Mutex // held while logging in
	credential Credentials
	logins     int

	placed  once[place]
	goes    once[destination]
	learned once[facts]
}

// Open connects to the host that a URI names, and logs in:
//
//	vsphere://[USER@]HOST[:PORT][/PATH][?PARAMETERS]
//
// PATH says where in the inventory: a datacenter (DC1), a folder of machines
// (DC1/vm/shop), a cluster, host, resource pool or vApp (DC1/host/C1,
// DC1/host/C1/Resources/test). The parameters pool, host, folder and policy
// name what PATH does not; thumbprint is the SHA-256 of the server's
// certificate, cacert a file of authorities. vi:// is the same.
//
// A URI that can't be one is another error than a host that can't be reached or
// does not accept the credentials, which is ErrUnavailable. A session that is
// lost is made anew when it is needed.
func Open(ctx context.Context, uri string, opt Options) (*Host, error) {
	t, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	h := &Host{target: t, opt: opt, log: opt.Log, keepAlive: keepAlive}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.opt.Login == nil {
		h.opt.Login = FromEnvironment
	}
	if h.dialer, err = newDialer(cmp.Or(t.authorities, opt.Authorities)); err != nil {
		return nil, err
	}
	if t.thumbprint != "" {
		pin, err := parseThumbprint(t.thumbprint)
		if err != nil {
			return nil, err
		}
		h.dialer.pin(t.address(), pin)
	}
	soapClient := soap.NewClient(&url.URL{Scheme: "https", Host: t.address(), Path: vim25.Path}, false)
	transport := soapClient.DefaultTransport()
	transport.DialTLSContext = h.dialer.dialTLS
	transport.TLSClientConfig.RootCAs = h.dialer.roots // of proxies' tunnels
	transport.WriteBufferSize, transport.ReadBufferSize = transferBuffer, transferBuffer
	transport.MaxIdleConnsPerHost = 2 * defaultParallel
	soapClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if opt.UserAgent != "" {
		soapClient.UserAgent = opt.UserAgent
	}
	h.http = &soapClient.Client
	if h.client, err = vim25.NewClient(ctx, soapClient); err != nil {
		return nil, h.unavailable(err)
	}
	h.client.RoundTripper = &relogin{h: h, inner: h.client.RoundTripper}
	if err := h.renew(ctx, 0); err != nil {
		return nil, err
	}
	about := h.client.ServiceContent.About
	h.log.DebugContext(ctx, "connected to vSphere", "uri", t, "product", about.FullName)
	return h, nil
}

// unavailable says of an error of connecting what it is.
func (h *Host) unavailable(err error) error {
	var cert *CertificateError
	if errors.As(err, &cert) {
		err = cert
	}
	return fmt.Errorf("%w: %s: %w", hypervisor.ErrUnavailable, h.target, redact.Cause(err))
}

// renew logs in, unless somebody else has since the caller saw that there had
// been so many logins.
func (h *Host) renew(ctx context.Context, seen int) error {
	h.login.Lock()
	defer h.login.Unlock()
	if h.logins != seen {
		return nil
	}
	if h.credential.Password == "" {
		c, err := h.opt.Login(ctx, h.target.address(), h.target.user)
		if err != nil {
			if errors.Is(err, ErrNoCredentials) {
				return fmt.Errorf("%w: %s: %w: set $%s and $%s, or name them in a file of credentials", hypervisor.ErrUnavailable, h.target, err, UserEnv, PasswordEnv)
			}
			return err
		}
		h.credential = c
	}
	err := session.NewManager(h.client).Login(ctx, url.UserPassword(h.credential.User, h.credential.Password))
	var invalid *types.InvalidLogin
	if faultOf(err, &invalid) {
		user := h.credential.User
		h.credential = Credentials{}
		return fmt.Errorf("%w: %s: the host does not accept the name %q with its password", hypervisor.ErrUnavailable, h.target, user)
	}
	if err != nil {
		return h.unavailable(err)
	}
	h.logins++
	return nil
}

func (h *Host) loginsSeen() int {
	h.login.Lock()
	defer h.login.Unlock()
	return h.logins
}

// relogin logs in again where the session is not there any more, and asks
// again.
type relogin struct {
	h     *Host
	inner soap.RoundTripper
}

// RoundTrip carries out one request.
func (r *relogin) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	if _, login := req.(*methods.LoginBody); login {
		return r.inner.RoundTrip(ctx, req, res)
	}
	seen := r.h.loginsSeen()
	err := r.inner.RoundTrip(ctx, req, res)
	var lost *types.NotAuthenticated
	if _, logout := req.(*methods.LogoutBody); logout || !faultOf(err, &lost) {
		return err
	}
	r.h.log.DebugContext(ctx, "the session is lost, logging in again", "uri", r.h.target)
	if err := r.h.renew(ctx, seen); err != nil {
		return err
	}
	// What was answered before must not be taken for the answer.
	reflect.ValueOf(res).Elem().SetZero()
	return r.inner.RoundTrip(ctx, req, res)
}

// URI is the host's, without what is secret or only about how to get there.
func (h *Host) URI() string { return h.target.String() }

// logoutLimit is for a host that does not answer any more.
const logoutLimit = 10 * time.Second

// Close logs out. Machines stay.
func (h *Host) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), logoutLimit)
	defer cancel()
	// A session that nobody ends ends by itself.
	if err := session.NewManager(h.client).Logout(ctx); err != nil {
		h.log.Debug("not logged out", "uri", h.target, "error", redact.Cause(err))
	}
	h.client.CloseIdleConnections()
	return nil
}

// vCenter says whether it is one, and not a single ESXi host.
func (h *Host) vCenter() bool { return h.client.IsVC() }

// lost says of an error that the host can't be reached.
func lost(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}
