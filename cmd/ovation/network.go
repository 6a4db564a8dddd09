package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/remote"
	"github.com/ovation-project/ovation/internal/httprange"
	"github.com/ovation-project/ovation/internal/readahead"
	"github.com/ovation-project/ovation/internal/term"
)

// networkFlags say how packages on web servers are fetched.
type networkFlags struct {
	cacert      string
	credentials string
	retries     int
	limit       string
	trouble     troubles
}

// troubles tells people why they wait for a server, and not too often.
type troubles struct {
	mu   sync.Mutex
	last time.Time
	say  func(string)
}

// troubleEvery is the least time between two tellings: several requests are on
// their way at once.
const troubleEvery = 10 * time.Second

// through says who tells from now on.
func (t *troubles) through(say func(string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.say = say
}

func (t *troubles) tell(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.say != nil && time.Since(t.last) > troubleEvery {
		t.last = time.Now()
		t.say(fmt.Sprintf("%v; it is asked again", err))
	}
}

// Where credentials come from that no flag names.
const (
	credentialsEnv     = "OVATION_CREDENTIALS"
	credentialsFileEnv = "OVATION_CREDENTIALS_FILE"
)

func (n *networkFlags) register(f *pflag.FlagSet) {
	f.StringVar(&n.cacert, "cacert", "", "file of certificate authorities (PEM) to trust beside the system's")
	f.StringVar(&n.credentials, "credentials", "", "file of credentials for web servers, as netrc or with tokens ($"+credentialsFileEnv+"; the text itself: $"+credentialsEnv+")")
	f.IntVar(&n.retries, "retries", 8, "how often in a row a request that got nowhere is made again")
	f.StringVar(&n.limit, "limit-rate", "", "the most that is fetched a second, such as 10MiB")
}

// options turns the flags into what the libraries take.
func (n *networkFlags) options() (opt appliance.Options, err error) {
	ropt := remote.Options{CAFile: n.cacert, UserAgent: "ovation/" + programVersion()}
	if n.limit != "" {
		if ropt.Limit, err = term.ParseSize(n.limit); err != nil || ropt.Limit < 1 {
			return opt, usagef("--limit-rate is a size a second, such as 10MiB, not %q", n.limit)
		}
	}
	opt.Trouble = n.trouble.tell
	if opt.Retries = n.retries; n.retries <= 0 {
		if n.retries < 0 {
			return opt, usagef("--retries is a number from 0 on, not %d", n.retries)
		}
		opt.Retries = -1
	}
	if ropt.Credentials, err = n.known(); err != nil {
		return opt, usageError{err}
	}
	if opt.Client, err = remote.New(ropt); err != nil {
		return opt, usageError{err}
	}
	return opt, nil
}

// known are the credentials that the user gave for hosts.
func (n *networkFlags) known() (c remote.Credentials, err error) {
	switch path := n.credentials; {
	case path != "" || os.Getenv(credentialsFileEnv) != "":
		if path == "" {
			path = os.Getenv(credentialsFileEnv)
		}
		return remote.ReadCredentials(path)
	case os.Getenv(credentialsEnv) != "":
		if c, err = remote.ParseCredentials(os.Getenv(credentialsEnv)); err != nil {
			err = fmt.Errorf("$%s: %w", credentialsEnv, err)
		}
	}
	return c, err
}

// packageOptions are those for packages wherever they lie.
func (a *app) packageOptions() (appliance.Options, error) {
	opt, err := a.network.options()
	opt.Place, opt.Note = a.openPlace, func(s string) { a.note("%s", s) }
	return opt, err
}

// openPackage opens the package at a locator as the flags say.
func (a *app) openPackage(ctx context.Context, locator string) (*appliance.Package, error) {
	opt, err := a.packageOptions()
	if err != nil {
		return nil, err
	}
	return appliance.Open(ctx, locator, opt)
}

// openOnce opens the package at a locator, or, where it can be read once only,
// what is read then: standard input, or the answer of a server that sends no
// parts of files.
func (a *app) openOnce(ctx context.Context, locator string) (*appliance.Package, io.ReadCloser, error) {
	if locator == "-" {
		// Read ahead, so that Ctrl-C ends the waiting for it.
		return nil, io.NopCloser(readahead.New(ctx, a.stdin, 4, 256<<10)), nil
	}
	pkg, err := a.openPackage(ctx, locator)
	if !errors.Is(err, appliance.ErrNoRanges) {
		return pkg, nil, err
	}
	opt, err := a.network.options()
	if err != nil {
		return nil, nil, err
	}
	body, err := appliance.Fetch(ctx, locator, opt)
	if err != nil {
		return nil, nil, err
	}
	a.note("the server sends whole files only: the package is fetched once, front to back")
	return nil, body, nil
}

// advice says what may help where a server does not let one in, "" where nothing
// is known.
func advice(err error) string {
	var status *httprange.StatusError
	if errors.As(err, new(x509.UnknownAuthorityError)) {
		return "--cacert FILE trusts an authority of your own"
	}
	if !errors.As(err, &status) {
		return ""
	}
	switch {
	case status.Code == http.StatusUnauthorized:
		return "--credentials FILE, or $" + credentialsEnv + ", says who you are"
	case status.Code == http.StatusProxyAuthRequired:
		return "the name and the password for the proxy stand in its address: HTTP_PROXY=http://NAME:PASSWORD@HOST:PORT"
	case status.Code == http.StatusForbidden && strings.Contains(status.URL, "?"):
		return "a signed address is good for one file and for a while, and may have expired"
	}
	return ""
}
