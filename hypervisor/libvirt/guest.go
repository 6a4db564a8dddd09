package libvirt

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovation-project/ovation/hypervisor"
)

// Define makes a domain that stays.
func (h *Host) Define(ctx context.Context, m hypervisor.Machine, r hypervisor.Record) (hypervisor.Guest, error) {
	f, err := h.learn(ctx, m.Architecture)
	if err != nil {
		return nil, err
	}
	networks, err := h.Networks(ctx)
	if err != nil {
		return nil, err
	}
	places, missing := h.places(ctx, m)
	if missing != nil && !errors.Is(missing, hypervisor.ErrNotFound) {
		return nil, missing
	}
	if m.UUID == "" {
		m.UUID = randomUUID()
	}
	d, err := domain(m, r, setting{facts: f, target: h.URI(), networks: networks, volumes: places, logs: h.logs(m, places)})
	if err != nil {
		return nil, err
	}
	if missing != nil {
		return nil, missing
	}
	text, err := d.Marshal()
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", m.Name, err)
	}
	uuid, err := parseUUID(m.UUID)
	if err != nil {
		return nil, err
	}
	return ask(ctx, h, func(c *connection) (hypervisor.Guest, error) {
		// libvirt changes a domain that has the same name and UUID.
		h.defining.Lock()
		defer h.defining.Unlock()
		if _, err := c.DomainLookupByName(m.Name); err == nil {
			return nil, fmt.Errorf("machine %s: %w", m.Name, hypervisor.ErrExists)
		}
		if other, err := c.DomainLookupByUUID(uuid); err == nil {
			return nil, fmt.Errorf("machine %s: the UUID %s is that of %s: %w", m.Name, m.UUID, other.Name, hypervisor.ErrExists)
		}
		dom, err := c.DomainDefineXMLFlags(text, golibvirt.DomainDefineValidate)
		if err != nil {
			// Another program may have been quicker.
			if other, there := c.DomainLookupByName(m.Name); there == nil && other.UUID != uuid {
				return nil, fmt.Errorf("machine %s: %w", m.Name, hypervisor.ErrExists)
			}
			return nil, fmt.Errorf("machine %s: %w", m.Name, err)
		}
		h.log.DebugContext(ctx, "defined a domain", "name", m.Name, "uuid", m.UUID)
		return h.guest(dom), nil
	})
}

// Check makes the domain of a machine as Define would, and has libvirt translate
// it, without defining it. Volumes that it names need not be there.
func (h *Host) Check(ctx context.Context, m hypervisor.Machine) error {
	f, err := h.learn(ctx, m.Architecture)
	if err != nil {
		return err
	}
	networks, err := h.Networks(ctx)
	if err != nil {
		return err
	}
	places := map[hypervisor.VolumeRef]place{}
	for _, d := range m.Drives {
		if d.Medium != nil && d.Medium.Volume != nil {
			// Of what is not there only the name is known.
			places[*d.Medium.Volume] = place{path: "/" + d.Medium.Volume.Pool + "/" + d.Medium.Volume.Name, kind: "file"}
		}
	}
	d, err := domain(m, hypervisor.Record{}, setting{facts: f, target: h.URI(), networks: networks, volumes: places})
	if err != nil || h.target.driver != "qemu" {
		return err
	}
	// libvirt makes tap devices also for cards that it only translates. That
	// their networks are there was seen above.
	d.Devices.Interfaces = nil
	text, err := d.Marshal()
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	_, err = ask(ctx, h, func(c *connection) (string, error) { return c.ConnectDomainXMLToNative("qemu-argv", text, 0) })
	if is(err, golibvirt.ErrConfigUnsupported) {
		return &hypervisor.UnfitError{Target: h.URI(), Reasons: []hypervisor.Reason{{Machine: m.ID, Subject: "machine", Text: err.Error()}}}
	}
	return nil // what else keeps it from translating need not keep it from running
}

// randomUUID is one of version 4 (RFC 9562).
func randomUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // which does not fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func parseUUID(s string) (golibvirt.UUID, error) {
	var u golibvirt.UUID
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(u) {
		return u, fmt.Errorf("%q is not a UUID", s)
	}
	copy(u[:], b)
	return u, nil
}

// Lookup finds a machine by its name.
func (h *Host) Lookup(ctx context.Context, name string) (*hypervisor.Kept, error) {
	k, err := ask(ctx, h, func(c *connection) (*hypervisor.Kept, error) {
		dom, err := c.DomainLookupByName(name)
		if err != nil {
			return nil, err
		}
		k, err := h.kept(c, dom)
		if err == nil {
			h.sizes(c, dom, k)
		}
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", name, err)
	}
	return k, nil
}

// sizes adds how large the media in a domain's drives are, where libvirt can
// tell.
func (h *Host) sizes(c *connection, dom golibvirt.Domain, k *hypervisor.Kept) {
	for i := range k.Machine.Drives {
		v := &k.Machine.Drives[i]
		if v.Medium == nil || v.Medium.Socket != "" {
			continue
		}
		stored, capacity, _, err := c.DomainGetBlockInfo(dom, v.ID, 0)
		if err != nil {
			h.log.Debug("the size of a drive is not known", "machine", dom.Name, "drive", v.ID, "error", err)
			continue
		}
		v.Capacity, v.Stored = bounded(capacity), bounded(stored)
	}
}

// List gives the machines by name.
func (h *Host) List(ctx context.Context, all bool) ([]*hypervisor.Kept, error) {
	return ask(ctx, h, func(c *connection) ([]*hypervisor.Kept, error) {
		doms, _, err := c.ConnectListAllDomains(1, golibvirt.ConnectListDomainsActive|golibvirt.ConnectListDomainsInactive)
		if err != nil {
			return nil, err
		}
		var out []*hypervisor.Kept
		for _, dom := range doms {
			k, err := h.kept(c, dom)
			if is(err, golibvirt.ErrNoDomain) {
				continue // removed a moment ago
			}
			if err != nil {
				return nil, fmt.Errorf("machine %s: %w", dom.Name, err)
			}
			if all || k.Record != nil {
				out = append(out, k)
			}
		}
		slices.SortFunc(out, func(a, b *hypervisor.Kept) int { return cmp.Compare(a.Name, b.Name) })
		return out, nil
	})
}

func (h *Host) kept(c *connection, dom golibvirt.Domain) (*hypervisor.Kept, error) {
	// What will be at the next start is what was defined; a domain that does
	// not stay has only what is.
	x, err := domainXML(c, dom, golibvirt.DomainXMLInactive)
	if err != nil {
		return nil, err
	}
	return h.keptOf(c, dom, x)
}

// keptOf says what a domain is by its XML.
func (h *Host) keptOf(c *connection, dom golibvirt.Domain, x *libvirtxml.Domain) (*hypervisor.Kept, error) {
	var err error
	k := &hypervisor.Kept{Guest: h.guest(dom), Name: dom.Name}
	k.Machine, k.Unsaid = machine(x, volumeAt(c))
	if x.Metadata != nil {
		if k.Record, err = recordOf(x.Metadata.XML); err != nil {
			h.log.Warn("a machine's record can't be read", "machine", dom.Name, "error", err)
		}
	}
	k.Machine.ID = dom.Name
	if k.Record != nil {
		k.Machine.ID = cmp.Or(k.Record.System, dom.Name)
	}
	return k, nil
}

// SetRecord puts another record in place of a machine's.
func (h *Host) SetRecord(ctx context.Context, name string, r hypervisor.Record) error {
	text, err := recordXML(r)
	if err != nil {
		return err
	}
	// libvirt adds the namespace's prefix itself.
	text = strings.ReplaceAll(text, recordPrefix+":record", "record")
	text = strings.Replace(text, fmt.Sprintf(` xmlns:%s="%s"`, recordPrefix, recordNamespace), "", 1)
	err = h.call(ctx, func(c *connection) error {
		dom, err := c.DomainLookupByName(name)
		if err != nil {
			return err
		}
		flags := golibvirt.DomainAffectConfig
		if state, _, err := c.DomainGetState(dom, 0); err == nil && golibvirt.DomainState(state) != golibvirt.DomainShutoff {
			flags |= golibvirt.DomainAffectLive
		}
		return c.DomainSetMetadata(dom, int32(golibvirt.DomainMetadataElement), some(text), some(recordPrefix), some(recordNamespace), flags)
	})
	if err != nil {
		return fmt.Errorf("machine %s: its record: %w", name, err)
	}
	return nil
}

func (h *Host) guest(dom golibvirt.Domain) *guest { return &guest{h: h, dom: dom} }

// guest is one domain.
type guest struct {
	h   *Host
	dom golibvirt.Domain

	mu      sync.Mutex
	console *console // that waits for the start, or is open
	asked   bool     // to shut down, by us
}

var (
	_ hypervisor.Agent        = (*guest)(nil)
	_ hypervisor.SerialLogger = (*guest)(nil)
)

func (g *guest) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("machine %s: %s: %w", g.dom.Name, what, err)
}

// Start powers the domain on. Where somebody has its console already, it begins
// paused, so that not a byte is lost.
func (g *guest) Start(ctx context.Context) error {
	g.mu.Lock()
	g.asked = false
	waiting := g.console
	g.mu.Unlock()
	if waiting != nil && !waiting.waits() {
		waiting = nil
	}
	err := g.h.call(ctx, func(c *connection) error {
		var flags uint32
		if waiting != nil {
			flags = uint32(golibvirt.DomainStartPaused)
		}
		dom, err := c.DomainCreateWithFlags(g.dom, flags)
		if err != nil || waiting == nil {
			return err
		}
		if err := waiting.open(context.WithoutCancel(ctx), c, dom); err != nil {
			return errors.Join(err, c.DomainDestroy(dom))
		}
		return c.DomainResume(dom)
	})
	if err != nil && strings.Contains(err.Error(), "KVM") {
		err = fmt.Errorf("%w; where KVM does not work, ask for software emulation", err)
	}
	return g.fail("start", err)
}

// state is the domain's, and libvirt's reason for it.
func (g *guest) state(c *connection) (golibvirt.DomainState, int32, error) {
	state, reason, err := c.DomainGetState(g.dom, 0)
	return golibvirt.DomainState(state), reason, err
}

// State says whether the guest runs.
func (g *guest) State(ctx context.Context) (hypervisor.State, error) {
	state, err := ask(ctx, g.h, func(c *connection) (hypervisor.State, error) {
		state, _, err := g.state(c)
		switch {
		case err != nil:
			return "", err
		case ended(state):
			return hypervisor.PoweredOff, nil
		case state == golibvirt.DomainPaused || state == golibvirt.DomainPmsuspended:
			return hypervisor.Paused, nil
		}
		return hypervisor.Running, nil
	})
	return state, g.fail("state", err)
}

func ended(s golibvirt.DomainState) bool {
	return s == golibvirt.DomainShutoff || s == golibvirt.DomainCrashed
}

// pollPause is how often Wait looks. Events would be quicker, and be lost with
// the connection.
const pollPause = 200 * time.Millisecond

// Wait returns when the guest has ended.
func (g *guest) Wait(ctx context.Context) (hypervisor.Exit, error) {
	for {
		if err := ctx.Err(); err != nil {
			return hypervisor.Exit{}, err
		}
		type seen struct {
			state  golibvirt.DomainState
			reason int32
		}
		now, err := ask(ctx, g.h, func(c *connection) (seen, error) {
			state, reason, err := g.state(c)
			return seen{state, reason}, err
		})
		switch {
		case errors.Is(err, hypervisor.ErrNotFound):
			return hypervisor.Exit{Reason: hypervisor.HostShutdown, Detail: "the machine was removed"}, nil
		case err != nil:
			return hypervisor.Exit{}, g.fail("wait", err)
		case ended(now.state):
			return g.exit(now.state, now.reason)
		}
		select {
		case <-ctx.Done():
			return hypervisor.Exit{}, ctx.Err()
		case <-time.After(pollPause):
		}
	}
}

// exit says in our terms how a domain ended.
func (g *guest) exit(state golibvirt.DomainState, reason int32) (hypervisor.Exit, error) {
	if state == golibvirt.DomainCrashed {
		return hypervisor.Exit{Reason: hypervisor.GuestCrashed}, nil
	}
	g.mu.Lock()
	asked := g.asked
	g.mu.Unlock()
	switch golibvirt.DomainShutoffReason(reason) {
	case golibvirt.DomainShutoffShutdown:
		if asked {
			return hypervisor.Exit{Reason: hypervisor.HostShutdown}, nil
		}
		return hypervisor.Exit{Reason: hypervisor.GuestShutdown}, nil
	case golibvirt.DomainShutoffDestroyed, golibvirt.DomainShutoffDaemon:
		return hypervisor.Exit{Reason: hypervisor.HostShutdown}, nil
	case golibvirt.DomainShutoffCrashed:
		return hypervisor.Exit{Reason: hypervisor.GuestCrashed}, nil
	case golibvirt.DomainShutoffFailed:
		return hypervisor.Exit{Reason: hypervisor.HostFailed, Detail: "libvirt reports that the machine failed to start; see its log on the host"}, nil
	case golibvirt.DomainShutoffSaved, golibvirt.DomainShutoffMigrated, golibvirt.DomainShutoffFromSnapshot:
		return hypervisor.Exit{Reason: hypervisor.HostShutdown, Detail: "the machine was saved or moved away"}, nil
	}
	return hypervisor.Exit{}, g.fail("wait", hypervisor.ErrNotRunning)
}

// Shutdown presses the power button.
func (g *guest) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	g.asked = true
	g.mu.Unlock()
	err := g.h.call(ctx, func(c *connection) error {
		err := c.DomainShutdown(g.dom)
		if is(err, golibvirt.ErrOperationInvalid) {
			return fmt.Errorf("%w: %w", hypervisor.ErrNotRunning, err)
		}
		return err
	})
	return g.fail("shut down", err)
}

// Kill powers off.
func (g *guest) Kill(ctx context.Context) error {
	return g.fail("power off", g.h.call(ctx, g.destroy))
}

func (g *guest) destroy(c *connection) error {
	err := c.DomainDestroy(g.dom)
	if is(err, golibvirt.ErrOperationInvalid) {
		return nil // it does not run
	}
	return err
}

// Remove removes the domain with what libvirt keeps beside it: the firmware's
// variables, the TPM's state, a saved state, snapshots' descriptions, and the
// logs of its serial ports.
func (g *guest) Remove(ctx context.Context) error {
	var logs []string
	err := g.h.call(ctx, func(c *connection) error {
		if err := g.destroy(c); err != nil {
			return err
		}
		logs = g.ownLogs(c)
		const most = golibvirt.DomainUndefineManagedSave | golibvirt.DomainUndefineSnapshotsMetadata | golibvirt.DomainUndefineNvram
		const newer = most | golibvirt.DomainUndefineCheckpointsMetadata
		const newest = newer | golibvirt.DomainUndefineTpm
		var err error
		for _, flags := range []golibvirt.DomainUndefineFlagsValues{newest, newer, most} {
			// An older libvirt refuses what it does not know; what it keeps
			// of a TPM, it removes unasked.
			if err = c.DomainUndefineFlags(g.dom, flags); !is(err, golibvirt.ErrInvalidArg) {
				break
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return g.fail("remove", err)
	}
	for _, path := range logs {
		if err := g.h.removeLog(ctx, path); err != nil {
			g.h.log.WarnContext(ctx, "a serial port's log stays on the host", "path", path, "error", err)
		}
	}
	return nil
}

// Ping asks QEMU's guest agent.
func (g *guest) Ping(ctx context.Context) error {
	seconds := int32(5)
	if deadline, ok := ctx.Deadline(); ok {
		seconds = max(1, min(seconds, int32(time.Until(deadline)/time.Second)))
	}
	err := g.h.call(ctx, func(c *connection) error {
		_, err := c.QEMUDomainAgentCommand(g.dom, `{"execute":"guest-ping"}`, seconds, 0)
		if is(err, golibvirt.ErrOperationInvalid) {
			return fmt.Errorf("%w: %w", hypervisor.ErrNotRunning, err)
		}
		return err
	})
	return g.fail("guest agent", err)
}
