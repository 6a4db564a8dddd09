package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/hypervisor"
)

// Machine is a machine of a deployment, as its host has it.
type Machine struct {
	*hypervisor.Kept
	// Data is what its record holds.
	Data *Data
}

// String is the machine's name on the host.
func (m *Machine) String() string { return m.Name }

// Found is a deployment as its host has it.
type Found struct {
	// ID is the deployment's, Name what people call it.
	ID, Name           string
	Appliance, Locator string
	Made               time.Time
	By                 string
	// Machines are in the order in which they start.
	Machines []*Machine
	// Missing is how many of its machines the host has not any more.
	Missing int
	// Unreadable are those of its machines whose records can't be read.
	Unreadable []*hypervisor.Kept
}

// UnreadableError says that a deployment has machines whose records can't be
// read. It is an ErrRecord.
type UnreadableError struct {
	Machines []*hypervisor.Kept
	Err      error
}

// Error names them.
func (e *UnreadableError) Error() string {
	names := make([]string, len(e.Machines))
	for i, k := range e.Machines {
		names[i] = k.Name
	}
	return fmt.Sprintf("machine %s: %v", strings.Join(names, ", "), e.Err)
}

// Unwrap gives the cause.
func (e *UnreadableError) Unwrap() error { return e.Err }

// List gives the deployments of a host, by name.
func List(ctx context.Context, host hypervisor.Host) ([]*Found, error) {
	kept, err := host.List(ctx, false)
	if err != nil {
		return nil, err
	}
	byID := map[string]*Found{}
	var all []*Found
	for _, k := range kept {
		if k.Record == nil {
			continue
		}
		f := byID[k.Record.Deployment]
		if f == nil {
			f = &Found{ID: k.Record.Deployment, Appliance: k.Record.Appliance, Locator: k.Record.Locator, Made: k.Record.Made}
			byID[f.ID] = f
			all = append(all, f)
		}
		data, err := DataOf(k.Record)
		if err != nil {
			f.Unreadable = append(f.Unreadable, k)
			continue
		}
		f.Name, f.By, f.Missing = data.Name, data.By, data.Machines
		f.Machines = append(f.Machines, &Machine{k, data})
	}
	for _, f := range all {
		f.Name = cmp.Or(f.Name, f.ID)
		f.Missing = max(0, f.Missing-len(f.Machines)-len(f.Unreadable))
		slices.SortFunc(f.Machines, compareMachines)
	}
	slices.SortStableFunc(all, func(a, b *Found) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

// AmbiguousError says that a name is that of several deployments.
type AmbiguousError struct {
	Name string
	IDs  []string
}

// Error names them.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%d deployments are called %q; say which by its ID: %s", len(e.IDs), e.Name, strings.Join(e.IDs, ", "))
}

// MinPrefix is how many characters of an ID are enough to name it.
const MinPrefix = 4

// Find gives the deployment that people mean by a name: a deployment's ID or a
// unique beginning of it, its name, or the name of one of its machines. None is
// a hypervisor.ErrNotFound, several an *AmbiguousError.
func Find(ctx context.Context, host hypervisor.Host, name string) (*Found, error) {
	all, err := List(ctx, host)
	if err != nil {
		return nil, err
	}
	f, err := Match(all, name)
	if err != nil {
		return nil, fmt.Errorf("on %s: %w", host.URI(), err)
	}
	return f, nil
}

// Match is Find among deployments.
func Match(all []*Found, name string) (*Found, error) {
	for _, means := range []func(*Found) bool{
		func(f *Found) bool { return f.ID == name },
		func(f *Found) bool { return f.Name == name },
		func(f *Found) bool {
			return slices.ContainsFunc(f.Machines, func(m *Machine) bool { return m.Name == name }) ||
				slices.ContainsFunc(f.Unreadable, func(k *hypervisor.Kept) bool { return k.Name == name })
		},
		func(f *Found) bool { return len(name) >= MinPrefix && strings.HasPrefix(f.ID, name) },
	} {
		var found []*Found
		for _, f := range all {
			if means(f) {
				found = append(found, f)
			}
		}
		if len(found) > 1 {
			e := &AmbiguousError{Name: name}
			for _, f := range found {
				e.IDs = append(e.IDs, f.ID)
			}
			return nil, e
		}
		if len(found) == 1 {
			return found[0], nil
		}
	}
	return nil, fmt.Errorf("deployment %q: %w", name, hypervisor.ErrNotFound)
}

// find gives a deployment by its ID. Where it has machines that can't be read,
// the error is an *UnreadableError, and the others are there all the same.
func find(ctx context.Context, host hypervisor.Host, id string) (*Found, error) {
	all, err := List(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if f.ID != id {
			continue
		}
		if len(f.Unreadable) > 0 {
			_, why := DataOf(f.Unreadable[0].Record)
			return f, &UnreadableError{f.Unreadable, why}
		}
		return f, nil
	}
	return nil, fmt.Errorf("deployment %s on %s: %w", id, host.URI(), hypervisor.ErrNotFound)
}

// Machine gives the machine that people mean by a name, or by the ID of its
// virtual system; nil where there is none.
func (f *Found) Machine(name string) *Machine {
	for _, m := range f.Machines {
		if m.Name == name {
			return m
		}
	}
	for _, m := range f.Machines {
		if m.Record.System == name {
			return m
		}
	}
	return nil
}

// choose gives the machines that are named, in order; none is all.
func (f *Found) choose(names []string) ([]*Machine, error) {
	if len(names) == 0 {
		return slices.Clone(f.Machines), nil
	}
	chosen := map[*Machine]bool{}
	for _, name := range names {
		m := f.Machine(name)
		if m == nil {
			var has []string
			for _, m := range f.Machines {
				has = append(has, m.Name)
			}
			return nil, fmt.Errorf("machine %q of deployment %s, which has %s: %w", name, f.Name, strings.Join(has, ", "), hypervisor.ErrNotFound)
		}
		chosen[m] = true
	}
	return slices.DeleteFunc(slices.Clone(f.Machines), func(m *Machine) bool { return !chosen[m] }), nil
}
