package plan

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/hypervisor"
)

// NetworkNames are the networks that machines are on, by the descriptor's
// names.
func NetworkNames(machines []*deploy.Planned) []string {
	var names []string
	for _, m := range machines {
		for _, n := range m.Machine.NICs {
			if !slices.Contains(names, n.Network) {
				names = append(names, n.Network)
			}
		}
	}
	return names
}

// UnknownNetworkError says that a network was named that no machine is on.
type UnknownNetworkError struct {
	Name string
	Has  []string
}

// Error names those there are.
func (e *UnknownNetworkError) Error() string {
	return fmt.Sprintf("the machines are on no network %q; they are on %s", e.Name, cmp.Or(strings.Join(e.Has, ", "), "none"))
}

// ParseNetworks reads where networks are to lead, as people write it: NAME=HOST
// NETWORK for one of the names, or a network of the host's for all that nobody
// names. The error is an *UnknownNetworkError.
func ParseNetworks(words, names []string) (chosen map[string]string, rest string, err error) {
	chosen = map[string]string{}
	for _, word := range words {
		i := slices.IndexFunc(names, func(n string) bool { return n != "" && strings.HasPrefix(word, n+"=") })
		switch {
		case i >= 0:
			chosen[names[i]] = strings.TrimPrefix(word, names[i]+"=")
		case strings.Contains(word, "="):
			name, _, _ := strings.Cut(word, "=")
			return nil, "", &UnknownNetworkError{Name: name, Has: names}
		default:
			rest = word
		}
	}
	return chosen, rest, nil
}

// Connect leads networks to a host's: to those that were chosen by name, then to
// rest, where that is not "". Where nobody chose, it is the host's network of the
// same name, or else its first.
func Connect(names []string, host []hypervisor.Network, chosen map[string]string, rest string) []Network {
	var out []Network
	for _, name := range names {
		n := Network{Name: name, Host: cmp.Or(chosen[name], rest)}
		same := slices.ContainsFunc(host, func(h hypervisor.Network) bool { return h.Name == name && name != "" })
		switch {
		case n.Host != "":
		case same:
			n.Host = name
		case len(host) > 0:
			n.Host, n.Reason = host[0].Name, "nobody chose one"
		}
		out = append(out, n)
	}
	return out
}

// Pools is what has pools: a hypervisor.Host.
type Pools interface {
	URI() string
	Pools(ctx context.Context) ([]hypervisor.Pool, error)
}

// ChoosePool finds the pool of a host that gets the volumes, "" is its first.
// Where there is none it is a *hypervisor.UnfitError.
func ChoosePool(ctx context.Context, host Pools, name string) (hypervisor.Pool, error) {
	pools, err := host.Pools(ctx)
	if err != nil {
		return hypervisor.Pool{}, err
	}
	var names []string
	for _, p := range pools {
		if p.Name == name || name == "" {
			return p, nil
		}
		names = append(names, p.Name)
	}
	why := fmt.Sprintf("the host has no active storage pool %q; it has %s", name, cmp.Or(strings.Join(names, ", "), "none"))
	if h, ok := host.(interface{ NoPool() string }); ok && len(pools) == 0 {
		why = cmp.Or(h.NoPool(), why)
	}
	return hypervisor.Pool{}, &hypervisor.UnfitError{Target: host.URI(), Reasons: []hypervisor.Reason{{Subject: "storage", Text: why}}}
}
