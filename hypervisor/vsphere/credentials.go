package vsphere

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// Where credentials come from that nobody else gives.
const (
	// UserEnv and PasswordEnv name environment variables with the user and the
	// password, PasswordFileEnv one with the path of a file whose first line is
	// the password.
	UserEnv         = "OVATION_VSPHERE_USER"
	PasswordEnv     = "OVATION_VSPHERE_PASSWORD"
	PasswordFileEnv = "OVATION_VSPHERE_PASSWORD_FILE"
)

// ErrNoCredentials says that nobody gave a password for a host.
var ErrNoCredentials = errors.New("no password for it")

// Credentials are a user's. They print as nothing.
type Credentials struct{ User, Password string }

// String tells nothing of the password.
func (c Credentials) String() string { return "credentials of " + c.User }

// GoString tells no more.
func (c Credentials) GoString() string { return c.String() }

// Login gives the credentials for a host (HOST or HOST:PORT), of the user that
// the URI names, "" where it names none. ErrNoCredentials is that it has none.
type Login func(ctx context.Context, host, user string) (Credentials, error)

// maxPasswordFile bounds a file with a password, in bytes.
const maxPasswordFile = 64 << 10

// FromEnvironment is a Login that takes $OVATION_VSPHERE_USER with
// $OVATION_VSPHERE_PASSWORD or $OVATION_VSPHERE_PASSWORD_FILE, and govc's
// variables where $GOVC_URL is of the same host.
func FromEnvironment(_ context.Context, host, user string) (Credentials, error) {
	c := Credentials{User: cmp.Or(user, os.Getenv(UserEnv)), Password: os.Getenv(PasswordEnv)}
	if path := os.Getenv(PasswordFileEnv); c.Password == "" && path != "" {
		text, err := os.ReadFile(path) // #nosec G304 G703 -- the user names it
		if err != nil {
			return c, fmt.Errorf("$%s: %w", PasswordFileEnv, err)
		}
		if len(text) > maxPasswordFile {
			return c, fmt.Errorf("$%s: %s has %d bytes, which is no password", PasswordFileEnv, path, len(text))
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		c.Password = strings.TrimSuffix(string(line), "\r")
	}
	if g, ok := fromGovc(host); ok && (c.User == "" || c.User == g.User) {
		c.User, c.Password = cmp.Or(c.User, g.User), cmp.Or(c.Password, g.Password)
	}
	if c.User == "" || c.Password == "" {
		return c, ErrNoCredentials
	}
	return c, nil
}

// fromGovc reads govc's variables. They are for one host, and go to no other.
func fromGovc(host string) (c Credentials, ok bool) {
	at := os.Getenv("GOVC_URL")
	if at == "" {
		return c, false
	}
	if !strings.Contains(at, "://") {
		at = "https://" + at
	}
	u, err := url.Parse(at)
	if err != nil || !strings.EqualFold(withPort(u.Host), withPort(host)) {
		return c, false
	}
	if u.User != nil {
		c.User = u.User.Username()
		c.Password, _ = u.User.Password()
	}
	c.User, c.Password = cmp.Or(os.Getenv("GOVC_USERNAME"), c.User), cmp.Or(os.Getenv("GOVC_PASSWORD"), c.Password)
	return c, true
}
