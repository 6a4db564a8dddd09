package inventory

import (
	"context"
	"fmt"
	"slices"

	"github.com/ovation-project/ovation/deploy/history"
)

// Acts is what was done with the deployments of the host, the oldest first: what
// this machine noted, also of those that are gone, and what the host keeps of
// others' doing.
func (v *Inventory) Acts(ctx context.Context) ([]history.Line, error) {
	here, err := v.History.List()
	if err != nil {
		return nil, err
	}
	all, err := v.List(ctx)
	if err != nil && all == nil {
		return nil, err
	}
	known := map[string]bool{}
	var lines []history.Line
	add := func(l history.Line) {
		// A deployment is noted when it is made, and kept since it was begun;
		// of all else the time is one.
		key := fmt.Sprint(l.Deployment, l.Time.UnixNano(), l.By)
		if l.What == history.Deployed {
			key = l.Deployment
		}
		if !known[key] {
			known[key] = true
			lines = append(lines, l)
		}
	}
	for _, l := range here {
		if l.Target == v.Host.URI() || slices.ContainsFunc(all, func(d *Deployment) bool { return d.ID == l.Deployment }) {
			add(l)
		}
	}
	for _, d := range all {
		line := func(act history.Act) history.Line {
			return history.Line{Deployment: d.ID, Name: d.Name, Target: d.Target, Act: act}
		}
		if d.State != Unfinished && d.State != Busy {
			add(line(history.Act{Time: d.Made, What: history.Deployed, By: d.By}))
		}
		for _, m := range d.Machines {
			for _, act := range m.Data.History {
				add(line(act))
			}
		}
	}
	slices.SortStableFunc(lines, func(x, y history.Line) int { return x.Time.Compare(y.Time) })
	return lines, err
}
