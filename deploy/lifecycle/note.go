package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/hypervisor"
)

// mostActs is how many acts a record has: the newest.
const mostActs = 20

// noteLimit is for a host that is slow.
const noteLimit = 20 * time.Second

// note writes what was done into machines' records. What can't be written keeps
// nothing from being done.
func note(ctx context.Context, host hypervisor.Host, machines []*Machine, act *history.Act, tell func(string, EventKind, string, ...any)) {
	recorder, ok := host.(hypervisor.Recorder)
	if !ok || act == nil {
		return
	}
	// It is done, whoever gave up meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteLimit)
	defer cancel()
	for _, m := range machines {
		r := *m.Record
		var err error
		if r.Data, err = withAct(r.Data, *act); err == nil {
			err = recorder.SetRecord(ctx, m.Name, r)
		}
		if err != nil {
			tell(m.Name, Unnoted, "%v", err)
		}
	}
}

// withAct adds an act to a record's data, and leaves the rest of it as it is:
// there may be fields in it of a later version of this program.
func withAct(data json.RawMessage, act history.Act) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	var acts []history.Act
	if have, ok := fields["history"]; ok {
		if err := json.Unmarshal(have, &acts); err != nil {
			return nil, fmt.Errorf("%w: its history: %w", ErrRecord, err)
		}
	}
	acts = append(acts, act)
	var err error
	if fields["history"], err = json.Marshal(acts[max(0, len(acts)-mostActs):]); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}
