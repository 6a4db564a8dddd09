package ovf

import (
	"maps"
	"slices"
)

// StartStep is what starts together.
type StartStep struct {
	Systems []*System
	// Delay is for how many seconds to wait before the next step.
	Delay int
	// WaitFor are the systems, of the step or of one before it, whose guests
	// are to be waited for: the wait may end as soon as all of them say that
	// they are ready.
	WaitFor []*System
}

// StartOrder gives the virtual systems in the order in which they start, as the
// StartupSections of their collections have it (DSP0243 1.1.0, 9.7): by order,
// those of one order together, a collection as a whole in its place. Those
// without an order start with the first step; those with startAction "none",
// and what is in them, are left out.
func (r *Resolved) StartOrder() []StartStep {
	systems := make(map[*Content]*System, len(r.Systems))
	for _, s := range r.Systems {
		systems[s.Content] = s
	}
	return startSteps(r.Envelope.Content, systems)
}

func startSteps(c *Content, systems map[*Content]*System) []StartStep {
	if c == nil {
		return nil
	}
	if c.Kind == VirtualSystem {
		return []StartStep{{Systems: []*System{systems[c]}}}
	}
	items := make(map[string]*StartupItem, len(c.Startup))
	for _, i := range c.Startup {
		items[i.ID] = i
	}
	byOrder := map[int][]*Content{}
	for _, child := range c.Children {
		order := 0
		if i := items[child.ID]; i != nil {
			if i.StartAction == "none" {
				continue
			}
			order = i.Order
		}
		byOrder[order] = append(byOrder[order], child)
	}
	var steps []StartStep
	orders := slices.Sorted(maps.Keys(byOrder))
	anytime := byOrder[0] // 0 is whenever it suits: with what is first
	if len(orders) > 0 && orders[0] == 0 {
		orders = orders[1:]
	}
	for n := 0; n < len(orders) || n == 0 && len(anytime) > 0; n++ {
		var together []StartStep
		var last StartStep
		if n < len(orders) {
			for _, child := range byOrder[orders[n]] {
				steps := startSteps(child, systems)
				together = mergeSteps(together, steps)
				i := items[child.ID]
				last.Delay = max(last.Delay, i.StartDelay)
				if i.WaitingForGuest && len(steps) > 0 {
					// A collection is ready when what it starts last is.
					last.WaitFor = append(last.WaitFor, steps[len(steps)-1].Systems...)
				}
			}
			if len(together) > 0 {
				end := &together[len(together)-1]
				end.Delay = max(end.Delay, last.Delay)
				end.WaitFor = union(end.WaitFor, last.WaitFor)
			}
		}
		if n == 0 {
			for _, child := range anytime {
				together = mergeSteps(together, startSteps(child, systems))
			}
		}
		steps = append(steps, together...)
	}
	return steps
}

// union puts those of b that a does not have behind a.
func union(a, b []*System) []*System {
	have := make(map[*System]bool, len(a)+len(b))
	for _, s := range a {
		have[s] = true
	}
	for _, s := range b {
		if !have[s] {
			have[s] = true
			a = append(a, s)
		}
	}
	return a
}

// mergeSteps lets two sequences run side by side.
func mergeSteps(a, b []StartStep) []StartStep {
	for n, step := range b {
		if n == len(a) {
			a = append(a, StartStep{})
		}
		a[n].Systems = append(a[n].Systems, step.Systems...)
		a[n].Delay = max(a[n].Delay, step.Delay)
		a[n].WaitFor = append(a[n].WaitFor, step.WaitFor...)
	}
	return a
}
