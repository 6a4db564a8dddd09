package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/deploy/sequence"
	"github.com/ovation-project/ovation/hypervisor"
)

// EventKind is what happened to a machine.
type EventKind string

// The events.
const (
	Starting EventKind = "starting"
	Started  EventKind = "started"
	Already  EventKind = "already" // it is so as it was to be
	Waiting  EventKind = "waiting" // until its guest is ready
	Late     EventKind = "late"    // its guest was not ready in time
	Asked    EventKind = "asked"   // to power off
	Killed   EventKind = "killed"  // powered off
	Ended    EventKind = "ended"
	Left     EventKind = "left"  // as it is
	Stale    EventKind = "stale" // its environment document was not made anew
	Removed  EventKind = "removed"
	Stays    EventKind = "stays"   // a volume, which Text names
	Unnoted  EventKind = "unnoted" // what was done is not in its record
)

// Event is something that happened on the way.
type Event struct {
	// Machine is the machine's name, "" for the deployment as a whole.
	Machine string    `json:"machine,omitempty"`
	Kind    EventKind `json:"event"`
	// Text says more, for people.
	Text string `json:"text,omitempty"`
}

// Options say how machines are started, stopped and removed. The zero value
// will do.
type Options struct {
	// Machines are the machines meant, by name or by the ID of their virtual
	// system; none is the whole deployment.
	Machines []string
	// Secrets are the values of password properties, as secrets.Read gives
	// them; nil is that they are elsewhere.
	Secrets secrets.Values
	// ReadyLimit and Grace replace the times of package sequence.
	ReadyLimit, Grace time.Duration
	// Wait has Start wait for the guests of the last step, too.
	Wait bool
	// Force powers off without asking, what is to be left running as well.
	Force bool
	// KeepVolumes leaves the volumes where they are, when machines are
	// removed. Environment documents go all the same: there may be secrets in
	// them.
	KeepVolumes bool
	// Act, where set, is written into the records of the machines that were
	// started or stopped, so that it is known to whoever looks at them.
	Act *history.Act
	// Told, where set, is told what happens, by one at a time.
	Told func(Event)
}

// teller makes Told safe for several, and one that does nothing where there is
// none.
func (o *Options) teller() func(machine string, kind EventKind, format string, a ...any) {
	if o.Told == nil {
		return func(string, EventKind, string, ...any) {}
	}
	var mu sync.Mutex
	return func(machine string, kind EventKind, format string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		o.Told(Event{machine, kind, fmt.Sprintf(format, a...)})
	}
}

// Start starts a deployment in its order. Machines that run are left as they
// are. Each machine's environment document is made anew before it starts.
//
// It ends at the first failure: what was started runs, and the error, a
// *sequence.Error[*Machine], says which they are. Starting again goes on from
// there. A deployment that the host does not have is a hypervisor.ErrNotFound.
func Start(ctx context.Context, host hypervisor.Host, deployment string, opt Options) error {
	f, err := find(ctx, host, deployment)
	if err != nil {
		return err
	}
	machines, err := f.choose(opt.Machines)
	if err != nil {
		return err
	}
	tell := opt.teller()
	if len(opt.Machines) == 0 {
		for _, m := range machines {
			if m.Data.Start.Manual {
				tell(m.Name, Left, "it starts only when it is named")
			}
		}
		machines = slices.DeleteFunc(machines, func(m *Machine) bool { return m.Data.Start.Manual })
	}
	running := map[*Machine]bool{}
	for _, m := range machines {
		state, err := m.State(ctx)
		switch {
		case err != nil:
			return err
		case state == hypervisor.Paused:
			return fmt.Errorf("machine %s is paused; resume it with the host's own tools, or stop it", m.Name)
		case state == hypervisor.Running:
			running[m] = true
			tell(m.Name, Already, "it runs")
		}
	}
	steps := stepsOf(machines)
	for i := range steps {
		steps[i].WaitFor = slices.DeleteFunc(steps[i].WaitFor, func(m *Machine) bool {
			unheard := !m.asks()
			if unheard {
				tell(m.Name, Late, "%s can't ask its guest whether it is ready; only a port could tell", host.URI())
			}
			return unheard
		})
	}
	// What runs since before needs no delay after it.
	steps = slices.DeleteFunc(steps, func(s sequence.Step[*Machine]) bool {
		return len(s.WaitFor) == 0 && !slices.ContainsFunc(s.Members, func(m *Machine) bool { return !running[m] })
	})
	env := &environments{host: host, secrets: opt.Secrets, platforms: map[string]*platform{}, tell: tell}
	var done []*Machine
	defer func() { note(ctx, host, done, opt.Act, tell) }()
	return sequence.Start(ctx, steps, sequence.StartOptions[*Machine]{
		Start: func(ctx context.Context, m *Machine) error {
			if running[m] {
				return nil
			}
			tell(m.Name, Starting, "")
			if err := env.refresh(ctx, m); err != nil {
				return err
			}
			if err := m.Start(ctx); err != nil {
				// Somebody else may have been quicker.
				if state, stateErr := m.State(ctx); stateErr != nil || state != hypervisor.Running {
					return err
				}
			}
			tell(m.Name, Started, "")
			done = append(done, m)
			return nil
		},
		Ready: ready,
		Limit: opt.ReadyLimit,
		Last:  opt.Wait,
		Waiting: func(all []*Machine, longest time.Duration) {
			if len(all) == 0 {
				tell("", Waiting, "for %v, before what comes next", longest)
			}
			for _, m := range all {
				tell(m.Name, Waiting, "for its guest to be ready, at most %v", longest)
			}
		},
		Late: func(m *Machine, err error) { tell(m.Name, Late, "its guest is not ready: %v", err) },
	})
}

// stepsOf puts machines into the steps that their records say.
func stepsOf(machines []*Machine) []sequence.Step[*Machine] {
	const second = time.Second
	byStep := map[int]*sequence.Step[*Machine]{}
	at := func(n int) *sequence.Step[*Machine] {
		if byStep[n] == nil {
			byStep[n] = &sequence.Step[*Machine]{}
		}
		return byStep[n]
	}
	for _, m := range machines {
		place, stop := m.Data.Start, m.Data.Stop
		s := at(place.Step)
		s.Members = append(s.Members, m)
		s.Delay = max(s.Delay, time.Duration(place.DelaySeconds)*second)
		s.StopDelay = max(s.StopDelay, time.Duration(stop.DelaySeconds)*second)
	}
	var numbers []int
	for n := range byStep {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, m := range machines {
		if m.Data.Start.WaitIn == 0 {
			continue
		}
		// The step may be one that nothing of is meant now: then after the
		// last that comes before it.
		after := m.Data.Start.Step
		for _, n := range numbers {
			if n <= m.Data.Start.WaitIn-1 {
				after = max(after, n)
			}
		}
		s := byStep[after]
		s.WaitFor = append(s.WaitFor, m)
		s.Limit = max(s.Limit, time.Duration(m.Data.Start.Ready.LimitSeconds)*second)
	}
	steps := make([]sequence.Step[*Machine], len(numbers))
	for i, n := range numbers {
		steps[i] = *byStep[n]
	}
	return steps
}

// Stop stops a deployment in the reverse of its order, each machine as its
// descriptor says (StopAction). It ends at the first failure, with a
// *sequence.Error[*Machine] that says what may still run. A deployment that the
// host does not have is a hypervisor.ErrNotFound.
func Stop(ctx context.Context, host hypervisor.Host, deployment string, opt Options) error {
	f, err := find(ctx, host, deployment)
	if err != nil {
		return err
	}
	machines, err := f.choose(opt.Machines)
	if err != nil {
		return err
	}
	tell := opt.teller()
	done, err := stop(ctx, machines, opt, tell)
	note(ctx, host, done, opt.Act, tell)
	return err
}

// stop stops machines, and says which it made to.
func stop(ctx context.Context, machines []*Machine, opt Options, tell func(string, EventKind, string, ...any)) (done []*Machine, err error) {
	if len(opt.Machines) == 0 && !opt.Force {
		machines = slices.DeleteFunc(slices.Clone(machines), func(m *Machine) bool {
			left := m.Data.Stop.Action == LeaveRunning
			if left {
				tell(m.Name, Left, "its descriptor leaves it running")
			}
			return left
		})
	}
	said := map[*Machine]bool{} // how it ended
	kill := func(ctx context.Context, m *Machine) error {
		err := m.Kill(ctx)
		if errors.Is(err, hypervisor.ErrNotFound) {
			return nil
		}
		if err == nil {
			tell(m.Name, Killed, "")
			done = append(done, m)
			said[m] = true
		}
		return err
	}
	asked := map[*Machine]bool{}
	err = sequence.Stop(ctx, stepsOf(machines), sequence.StopOptions[*Machine]{
		Running: func(ctx context.Context, m *Machine) (bool, error) {
			state, err := m.State(ctx)
			if errors.Is(err, hypervisor.ErrNotFound) {
				return false, nil
			}
			if err == nil && state == hypervisor.PoweredOff && !said[m] {
				said[m] = true
				if asked[m] {
					tell(m.Name, Ended, "")
					done = append(done, m)
				} else {
					tell(m.Name, Already, "it is off")
				}
			}
			return state != hypervisor.PoweredOff, err
		},
		Stop: func(ctx context.Context, m *Machine) error {
			if opt.Force || m.Data.Stop.Action == PowerOff {
				return kill(ctx, m)
			}
			err := m.Shutdown(ctx)
			if errors.Is(err, hypervisor.ErrNotRunning) || errors.Is(err, hypervisor.ErrNotFound) {
				return nil
			}
			if err == nil {
				asked[m] = true
				tell(m.Name, Asked, "to power off")
			}
			return err
		},
		Kill:  kill,
		Grace: opt.Grace,
	})
	return done, err
}

// Remove removes a deployment: powers its machines off, removes their volumes,
// then the machines with all that the host keeps of them. Ended at any moment,
// it can be done again, and finishes: the records go last. A deployment that is
// not there is no error.
//
// Machines whose records can't be read (ErrRecord) are not removed, and nothing
// else of the deployment is, unless Force is set; then their volumes stay.
func Remove(ctx context.Context, host hypervisor.Host, deployment string, opt Options) error {
	f, err := find(ctx, host, deployment)
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	var unreadable *UnreadableError
	if err != nil && (!opt.Force || !errors.As(err, &unreadable)) {
		return err
	}
	machines, err := f.choose(opt.Machines)
	if err != nil {
		return err
	}
	tell := opt.teller()
	if unreadable != nil && len(opt.Machines) == 0 {
		for _, k := range unreadable.Machines {
			if err := k.Remove(ctx); err != nil {
				return err
			}
			tell(k.Name, Removed, "")
			for _, v := range volumes(&k.Machine) {
				tell(k.Name, Stays, "%s in pool %s: the record that says whose it is can't be read", v.Name, v.Pool)
			}
		}
	}
	off := opt
	off.Force, off.Machines = true, nil
	if _, err := stop(ctx, machines, off, tell); err != nil {
		return err
	}
	going := map[*Machine]bool{}
	for _, m := range machines {
		going[m] = true
	}
	used := map[hypervisor.VolumeRef]string{} // by machines that stay
	for _, m := range f.Machines {
		if !going[m] {
			for _, v := range m.Data.Volumes {
				used[v] = m.Name
			}
		}
	}
	gone := map[hypervisor.VolumeRef]bool{}
	for _, m := range slices.Backward(machines) {
		for _, v := range m.Data.Volumes {
			env := m.Data.Environment != nil && v == m.Data.Environment.Volume
			switch {
			case gone[v]:
			case used[v] != "":
				tell(m.Name, Stays, "%s in pool %s: %s has it too", v.Name, v.Pool, used[v])
			case opt.KeepVolumes && !env:
				tell(m.Name, Stays, "%s in pool %s", v.Name, v.Pool)
			default:
				err := host.RemoveVolume(ctx, v)
				if errors.Is(err, hypervisor.ErrNotFound) {
					// Not even its pool is there, or not now.
					tell(m.Name, Stays, "%s in pool %s: %v", v.Name, v.Pool, err)
				} else if err != nil {
					return fmt.Errorf("machine %s: volume %s in pool %s: %w", m.Name, v.Name, v.Pool, err)
				}
			}
			gone[v] = true
		}
	}
	for _, m := range slices.Backward(machines) {
		if err := m.Remove(ctx); err != nil {
			return err
		}
		tell(m.Name, Removed, "")
	}
	return nil
}

// compareMachines is the order of starting, and by name within a step.
func compareMachines(a, b *Machine) int {
	return cmp.Or(cmp.Compare(a.Data.Start.Step, b.Data.Start.Step), cmp.Compare(a.Name, b.Name))
}
