// Package redact shows the addresses of files and hosts without what is secret
// in them, in texts and in errors.
package redact

import (
	"errors"
	"net/url"
	"strings"
)

// Parse is url.Parse, whose error does not repeat the address. It takes no host
// with colons that stand outside of brackets, as url.Parse does where the scheme is
// not the web's: such a URL can't be written again.
func Parse(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err == nil && strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(u.Host, "[") {
		return nil, errors.New("an IPv6 address stands in brackets, as in [::1]")
	}
	return u, Cause(err)
}

// Cause takes the address from an error of net/url or net/http, and leaves what
// went wrong.
func Cause(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Host gives the URI of a host without anything that could be a password. It need
// not be one that can be parsed.
func Host(uri string) string {
	before, after, ok := strings.Cut(uri, "://")
	if !ok {
		return uri
	}
	authority, rest, slash := strings.Cut(after, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, _, _ := strings.Cut(authority[:at], ":")
		authority = user + authority[at:]
	} else if at := strings.LastIndexByte(after, '@'); at >= 0 {
		// A password with a slash in it.
		authority, rest, slash = after[at+1:], "", false
	}
	if slash {
		authority += "/" + rest
	}
	return before + "://" + authority
}
