package remote

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
)

// Credentials are names with passwords, and bearer tokens, for hosts. They
// print as nothing.
type Credentials struct {
	entries []credential
}

// credential is for one host. It never tells itself.
type credential struct {
	scheme, host, port string // "" for any port; scheme is "" or http
	login, password    string
	token              string
}

// String tells how many there are.
func (c Credentials) String() string { return fmt.Sprintf("%d credentials", len(c.entries)) }

// GoString tells no more.
func (c Credentials) GoString() string { return c.String() }

// maxCredentials bounds a file of credentials, in bytes.
const maxCredentials = 1 << 20

// ReadCredentials reads a file of credentials.
func ReadCredentials(path string) (Credentials, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Credentials{}, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	if st.Size() > maxCredentials {
		return Credentials{}, fmt.Errorf("%w: %s has %d bytes, over the limit of %d", ErrCredentials, path, st.Size(), maxCredentials)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Credentials{}, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	c, err := ParseCredentials(string(b))
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseCredentials reads credentials in the syntax of netrc files:
//
//	machine HOST[:PORT] login NAME password PASSWORD
//	machine HOST[:PORT] token TOKEN
//
// token, which other programs' netrc files do not have, is for bearer tokens.
// They go over https only, and to this machine's own servers; for others that
// have no https the host is written http://HOST. "default" entries, which are
// for any host, are refused: a redirect would carry them anywhere. Errors
// quote nothing of the text.
func ParseCredentials(text string) (Credentials, error) {
	var c Credentials
	var cur *credential
	bad := func(line int, format string, args ...any) (Credentials, error) {
		return Credentials{}, fmt.Errorf("%w, line %d: %s", ErrCredentials, line, fmt.Sprintf(format, args...))
	}
	macro := false
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		if macro { // a macro ends with an empty line
			macro = strings.TrimSpace(line) != ""
			continue
		}
		words := strings.Fields(line)
		for k := 0; k < len(words); k++ {
			key := words[k]
			if strings.HasPrefix(key, "#") {
				break
			}
			if key == "macdef" {
				macro = true
				break
			}
			if key == "default" {
				return bad(n, "an entry for any host (default) is not taken: name the host with machine")
			}
			if k+1 == len(words) {
				return bad(n, "there is nothing behind the last word")
			}
			k++
			value := words[k]
			if key == "machine" {
				e, err := parseMachine(value)
				if err != nil {
					return bad(n, "%v", err)
				}
				c.entries = append(c.entries, e)
				cur = &c.entries[len(c.entries)-1]
				continue
			}
			if cur == nil {
				return bad(n, "it has to begin with machine HOST")
			}
			switch key {
			case "login":
				cur.login = value
			case "password":
				cur.password = value
			case "token":
				cur.token = value
			case "account":
			default:
				return bad(n, "machine, login, password and token are known, and there is another word")
			}
		}
	}
	for i, e := range c.entries {
		if e.token == "" && e.login == "" {
			return Credentials{}, fmt.Errorf("%w: entry %d, for %s, has neither a login nor a token", ErrCredentials, i+1, e.host)
		}
		if e.token != "" && e.login != "" {
			return Credentials{}, fmt.Errorf("%w: entry %d, for %s, has both a login and a token", ErrCredentials, i+1, e.host)
		}
	}
	return c, nil
}

func parseMachine(s string) (credential, error) {
	var e credential
	if rest, ok := strings.CutPrefix(s, "http://"); ok {
		e.scheme, s = "http", rest
	} else {
		s = strings.TrimPrefix(s, "https://")
	}
	s = strings.TrimSuffix(s, "/")
	e.host = s
	if host, port, err := net.SplitHostPort(s); err == nil {
		e.host, e.port = host, port
	}
	e.host = strings.ToLower(strings.Trim(e.host, "[]"))
	if e.host == "" || strings.ContainsAny(e.host, "/@*") {
		return e, fmt.Errorf("what follows machine is no host")
	}
	return e, nil
}

// Login gives the name and the password for a host (HOST or HOST:PORT) that is
// spoken to by TLS. Where user is not "", it is that user's.
func (c Credentials) Login(host, user string) (name, password string, ok bool) {
	u := &url.URL{Scheme: "https", Host: host}
	for _, e := range c.entries {
		if e.login == "" || user != "" && e.login != user {
			continue
		}
		if found, ok := (Credentials{[]credential{e}}).lookup(u); ok {
			return found.login, found.password, true
		}
	}
	return "", "", false
}

// lookup gives what is to be sent to an address.
func (c Credentials) lookup(u *url.URL) (credential, bool) {
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	for _, e := range c.entries {
		if e.host != strings.ToLower(u.Hostname()) || e.port != "" && e.port != port {
			continue
		}
		if u.Scheme == "https" || e.scheme == "http" || loopback(u.Hostname()) {
			return e, true
		}
	}
	return credential{}, false
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func (e credential) set(req *http.Request) {
	if e.token != "" {
		req.Header.Set("Authorization", "Bearer "+e.token)
		return
	}
	req.SetBasicAuth(e.login, e.password)
}
