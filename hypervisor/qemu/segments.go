package qemu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/etherswitch"
)

// Segments are the networks of machines that run together: cards on networks of
// the same name see each other, and have addresses that differ. Each still has
// its own way out. It has to be closed when the machines have ended.
type Segments struct {
	places map[place]Subnet

	mu       sync.Mutex
	switches map[string]*etherswitch.Switch // by network
}

// place is a card of a machine.
type place struct{ machine, card string }

// Subnet is the part of a network that a card is given addresses from.
type Subnet struct {
	// Network is the number of the network, Card that of the card on it, from
	// 0 on.
	Network, Card int
	// Shared says that there are other cards.
	Shared bool
}

// NewSegments looks which cards are together. Cards on a network without a name
// are alone.
func NewSegments(machines []hypervisor.Machine) *Segments {
	s := &Segments{places: map[place]Subnet{}, switches: map[string]*etherswitch.Switch{}}
	cards := map[string][]place{}
	var order []string
	for _, m := range machines {
		for _, n := range m.NICs {
			name := n.Network
			if name == "" {
				name = "\x00" + m.ID + "\x00" + n.ID
			}
			if cards[name] == nil {
				order = append(order, name)
			}
			cards[name] = append(cards[name], place{m.ID, n.ID})
		}
	}
	for i, name := range order {
		for k, p := range cards[name] {
			s.places[p] = Subnet{Network: i, Card: k, Shared: len(cards[name]) > 1}
		}
	}
	return s
}

// Together gives the machines that see each other, by the network's name.
func (s *Segments) Together(machines []hypervisor.Machine) map[string][]string {
	found := map[string][]string{}
	for _, m := range machines {
		for _, n := range m.NICs {
			if s.places[place{m.ID, n.ID}].Shared {
				found[n.Network] = append(found[n.Network], m.ID)
			}
		}
	}
	return found
}

// subnets are those of a machine's cards. Without Segments each card is alone.
func (s *Segments) subnets(m hypervisor.Machine) map[string]Subnet {
	found := map[string]Subnet{}
	for i, n := range m.NICs {
		if s == nil {
			found[n.ID] = Subnet{Network: i}
		} else {
			found[n.ID] = s.places[place{m.ID, n.ID}]
		}
	}
	return found
}

// Close ends the networks.
func (s *Segments) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.switches {
		w.Close()
	}
	clear(s.switches)
}

// plugIn gives the connections to the networks.
func (s *Segments) plugIn(c cables) {
	for _, p := range c.plugs {
		s.mu.Lock()
		w := s.switches[p.network]
		if w == nil {
			w = etherswitch.New()
			s.switches[p.network] = w
		}
		s.mu.Unlock()
		w.Attach(p.card, p.out)
	}
}

// cables are the connections of a machine's cards to their networks.
type cables struct {
	files []*os.File // QEMU's ends
	ours  []net.Conn
	plugs []plug
}

type plug struct {
	network   string
	card, out net.Conn
}

// wires numbers the connections of a machine's cards that are not alone.
func wires(m hypervisor.Machine, subnets map[string]Subnet) map[string]Wire {
	found := map[string]Wire{}
	for _, n := range m.NICs {
		if subnets[n.ID].Shared {
			next := networkFD + 2*len(found)
			found[n.ID] = Wire{next, next + 1}
		}
	}
	return found
}

// cables makes the connections that wires has numbered, in their order.
func (s *Segments) cables(m hypervisor.Machine, wires map[string]Wire) (c cables, err error) {
	for _, n := range m.NICs {
		if _, shared := wires[n.ID]; !shared {
			continue
		}
		p := plug{network: n.Network}
		for _, end := range []*net.Conn{&p.card, &p.out} {
			ours, theirs, err := socketPair("network")
			if err != nil {
				return c, errors.Join(err, c.close(false))
			}
			*end = ours
			c.files = append(c.files, theirs)
			c.ours = append(c.ours, ours)
		}
		c.plugs = append(c.plugs, p)
	}
	return c, nil
}

// close closes QEMU's ends; ours are kept where it has got its own.
func (c cables) close(keep bool) error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	if !keep {
		for _, conn := range c.ours {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}

// Wire is how QEMU reaches the network of a card that is not alone: by connected
// sockets that it inherits.
type Wire struct {
	// CardFD leads from the card to the network, OutFD from there to QEMU's
	// own user-mode network, which is the card's way out.
	CardFD, OutFD int
}

// addresses are the options of a user-mode network for the cards of a subnet to
// have addresses of their own: 10.0.2.0/24 on the first network, 10.0.3.0/24 on
// the second, and so on. All QEMUs of a network are the same router in it.
func (s Subnet) addresses() string {
	if s.Network == 0 && s.Card == 0 {
		return "" // QEMU's default
	}
	const router, names, first, last = 2, 3, 15, 254
	third := 2 + s.Network%253
	at := func(host int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(third), byte(host)}) }
	return fmt.Sprintf(",net=%s/24,host=%s,dns=%s,dhcpstart=%s", at(0), at(router), at(names), at(first+s.Card%(last-first)))
}

// network adds the way from a card to the host, and gives the netdev that the
// card is connected to.
func (b *builder) network(i int, n hypervisor.NIC, options string) string {
	name, out := fmt.Sprintf("net%d", i), fmt.Sprintf("out%d", i)
	wire, shared := b.h.Wires[n.ID]
	if !shared {
		b.add("-netdev", "user,id="+name+options)
		return name
	}
	// The way out and its end of the wire are joined by a hub.
	b.add("-netdev", fmt.Sprintf("socket,id=%s,fd=%d", name, wire.CardFD))
	b.add("-netdev", "user,id="+out+options)
	b.add("-netdev", fmt.Sprintf("socket,id=%swire,fd=%d", out, wire.OutFD))
	for _, end := range []string{out, out + "wire"} {
		b.add("-netdev", fmt.Sprintf("hubport,id=%shub,hubid=%d,netdev=%s", end, i, end))
	}
	return name
}
