package redact

import (
	"net/url"
	"strings"
)

// URL gives a URL without the password and the query, which may be a
// signature.
func URL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(a URL that cannot be read)"
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Redacted()
}

// Place gives a URL without what only says who may read there, and until when:
// the password, and the signatures of object stores. Two addresses of one file
// that were signed at different times have the same Place. It is to be compared
// and not to be shown: what signatures are called elsewhere is not known here.
func Place(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	azure := q.Has("sig") && q.Has("sv")
	for name := range q {
		if signs(name) || azure && azureSigns[name] {
			delete(q, name)
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// signs says that a parameter is part of a signature: of Amazon's object store
// (both versions) and those that speak like it, Google's, Alibaba's, and
// CloudFront's.
func signs(name string) bool {
	name = strings.ToLower(name)
	for _, prefix := range []string{"x-amz-", "x-goog-", "x-oss-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "signature", "expires", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "security-token", "policy", "key-pair-id",
		"token", "access_token":
		return true
	}
	return false
}

// azureSigns are the parameters of a shared access signature.
var azureSigns = map[string]bool{"sv": true, "ss": true, "srt": true, "sr": true, "sp": true, "st": true, "se": true, "spr": true, "sip": true, "sig": true,
	"si": true, "skoid": true, "sktid": true, "skt": true, "ske": true, "sks": true, "skv": true, "saoid": true, "suoid": true, "scid": true, "sdd": true}
