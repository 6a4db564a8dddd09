package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/term"
)

// runPlan is what run will do; it is what --dry-run --json prints.
type runPlan struct {
	APIVersion   string                  `json:"apiVersion"`
	Locator      string                  `json:"locator"`
	Option       string                  `json:"option,omitempty"`
	Driver       string                  `json:"driver"`
	Hypervisor   string                  `json:"hypervisorVersion"`
	Acceleration hypervisor.Acceleration `json:"acceleration"`
	HasManifest  bool                    `json:"hasManifest"`
	Machines     []runMachine            `json:"machines"`
}

type runMachine struct {
	hypervisor.Machine
	Notes []deploy.Note `json:"notes"`
	// Command is the program and its arguments.
	Command []string `json:"command"`
}

// showRun says what would be done.
func (a *app) showRun(ctx context.Context, r *prepared, f runFlags) error {
	r.put(cmp.Or(f.keep, "DIR"), "DIR", f.keep == "")
	plan := runPlan{APIVersion: "ovation/run-plan/v1", Locator: r.pkg.Locator(), Driver: r.caps.Driver, Hypervisor: r.caps.Version,
		Acceleration: r.caps.Acceleration, HasManifest: r.pkg.Manifest() != nil}
	if r.resolved.Option != nil {
		plan.Option = r.resolved.Option.ID
	}
	for _, p := range r.planned {
		command, err := a.qemu(f, r, "").Command(ctx, p.Machine)
		if err != nil {
			return err
		}
		plan.Machines = append(plan.Machines, runMachine{Machine: p.Machine, Notes: append([]deploy.Note{}, p.Notes...), Command: command})
	}
	if a.json {
		return a.printJSON(plan)
	}
	a.noteRun(r)
	for _, l := range r.licences {
		a.note("%s: its licence is asked for, unless --accept-eula accepts it: %s", l.System, l.Title())
	}
	for _, m := range plan.Machines {
		a.out.Heading(m.ID)
		a.out.Printf("%d CPUs, %s of memory, %s firmware, %s by %s %s\n", m.CPU.Count, term.Size(m.Memory.Bytes), m.Firmware.Kind, plan.Acceleration.Kind, plan.Driver, plan.Hypervisor)
		a.printDevices(m.Machine, func(d hypervisor.Medium) string { return d.Path }, func(n hypervisor.NIC) string { return n.Network })
		a.out.Printf("%s\n\n", term.Clean(shellQuoted(m.Command)))
	}
	return nil
}

// shellQuoted writes a command as a shell would take it.
func shellQuoted(args []string) string {
	var parts []string
	for _, s := range args {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=.,:/", r))
		}) {
			s = "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

// noteRun says what a person should know before it starts.
func (a *app) noteRun(r *prepared) {
	for _, n := range r.pkg.Notes() {
		a.note("%s", n)
	}
	for _, n := range r.resolved.Notes {
		a.note("descriptor, line %d: %s", n.Pos.Line, n.Text)
	}
	for _, p := range r.planned {
		for _, n := range p.Notes {
			a.note("%s", n)
		}
	}
	for disk, ids := range r.copies() {
		a.note("disk %s is one that %s share; here each has a copy, and sees nothing of what the others write", disk, strings.Join(ids, ", "))
	}
	for _, p := range r.byHand {
		a.note("%s: it starts only when it is named (--system %s)", p.Machine.ID, p.Machine.ID)
	}
	for i, s := range r.steps[:len(r.steps)-1] {
		for _, p := range s.WaitFor {
			if s.Delay == 0 {
				a.note("%s: what starts after it (%s) is to wait until its guest is ready, which QEMU can't ask; it starts at once", p.Machine.ID, r.steps[i+1].Members[0].Machine.ID)
			}
		}
	}
	if len(r.planned) > 1 {
		a.note("%d machines run at once; %s", len(r.planned), r.together())
	}
	if c := r.caps.Acceleration; c.Reason != "" {
		a.note("%s %s without hardware acceleration: %s", r.caps.Driver, r.caps.Version, c.Reason)
	} else {
		a.note("%s %s with %s", r.caps.Driver, r.caps.Version, c.Kind)
	}
}

// copies are the machines that have a disk in common, by the disk.
func (r *prepared) copies() map[string][]string {
	found := map[string][]string{}
	for _, p := range r.planned {
		for _, d := range p.Machine.Drives {
			if d.Shared {
				found[d.DiskID] = append(found[d.DiskID], p.Machine.ID)
			}
		}
	}
	maps.DeleteFunc(found, func(_ string, ids []string) bool { return len(ids) < 2 })
	return found
}

// together says which machines see each other.
func (r *prepared) together() string {
	shared := r.segments.Together(r.machines())
	if len(shared) == 0 {
		return "they are on no network together"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(shared)) {
		parts = append(parts, fmt.Sprintf("on network %q %s see each other", name, strings.Join(shared[name], ", ")))
	}
	return strings.Join(parts, "; ")
}
