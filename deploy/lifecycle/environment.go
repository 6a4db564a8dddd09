package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ovation-project/ovation/deploy/environment"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf/ovfenv"
)

// environments makes guests' environment documents anew.
type environments struct {
	host      hypervisor.Host
	secrets   secrets.Values
	platforms map[string]*platform // by architecture
	tell      func(string, EventKind, string, ...any)
}

// platform is what the host says of itself.
type platform struct {
	caps *hypervisor.Capabilities
	err  error
}

// document gives what a guest is to be told now; ok is false where its secrets
// are elsewhere.
func (e *environments) document(ctx context.Context, m *Machine) (doc *ovfenv.Environment, caps *hypervisor.Capabilities, ok bool) {
	env := m.Data.Environment
	d := env.Document
	d.Properties = slices.Clone(d.Properties)
	values := e.secrets[m.Record.System]
	for i := range d.Properties {
		p := &d.Properties[i]
		if !slices.Contains(env.Secrets, p.Key) {
			continue
		}
		value, have := values[p.Key]
		if !have {
			return nil, nil, false
		}
		p.Value = value
	}
	arch := m.Machine.Architecture
	if e.platforms[arch] == nil {
		caps, err := e.host.Capabilities(ctx, arch)
		e.platforms[arch] = &platform{caps, err}
	}
	// A host that does not say what it is now is what it was.
	if p := e.platforms[arch]; p.err == nil {
		d.Platform = environment.Platform(p.caps, m.Data.Locale)
		caps = p.caps
	}
	return &d, caps, true
}

// refresh brings a machine's document up to date, before it starts.
func (e *environments) refresh(ctx context.Context, m *Machine) error {
	env := m.Data.Environment
	if env == nil {
		return nil
	}
	doc, caps, ok := e.document(ctx, m)
	if !ok {
		e.tell(m.Name, Stale, "the passwords in its environment document are kept where it was deployed; the document stays as it is")
		return nil
	}
	if informer, has := e.host.(hypervisor.GuestInformer); has && caps != nil && caps.GuestInfo && slices.Contains(env.Transports, environment.GuestInfo) {
		if err := informer.SetGuestInfo(ctx, m.Name, environment.GuestInfoKey, string(doc.Marshal())); err != nil {
			return fmt.Errorf("machine %s: its environment document: %w", m.Name, err)
		}
	}
	if env.Volume.Name == "" {
		return nil
	}
	// The time is that of the deployment, so that what is the same stays.
	image, err := environment.Image(doc, m.Record.Made)
	if err != nil {
		return err
	}
	if err := replaceVolume(ctx, e.host, env.Volume, image); err != nil {
		return fmt.Errorf("machine %s: its environment document: %w", m.Name, err)
	}
	return nil
}

// replaceVolume gives a volume of a few pages other content, where it has not
// that already. Nobody may be using it.
func replaceVolume(ctx context.Context, host hypervisor.Host, ref hypervisor.VolumeRef, image []byte) error {
	same, err := holds(ctx, host, ref, image)
	if err != nil || same {
		return err
	}
	if err := host.RemoveVolume(ctx, ref); err != nil {
		return err
	}
	return WriteVolume(ctx, host, ref, image)
}

func holds(ctx context.Context, host hypervisor.Host, ref hypervisor.VolumeRef, image []byte) (bool, error) {
	v, err := host.OpenVolume(ctx, ref)
	if errors.Is(err, hypervisor.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer v.Close()
	if v.Size() != int64(len(image)) {
		return false, nil
	}
	have, err := io.ReadAll(io.NewSectionReader(v, 0, v.Size()))
	return bytes.Equal(have, image), err
}

// WriteVolume makes a volume that holds a medium which is no disk: a few pages
// that are in memory. Where it fails, the volume may be there, half filled.
func WriteVolume(ctx context.Context, host hypervisor.Host, ref hypervisor.VolumeRef, image []byte) error {
	v, err := host.CreateVolume(ctx, hypervisor.VolumeSpec{VolumeRef: ref, Format: "iso", CapacityBytes: int64(len(image))})
	if err != nil {
		return err
	}
	w, err := v.Upload(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(image); err != nil {
		return err
	}
	return w.Close()
}
