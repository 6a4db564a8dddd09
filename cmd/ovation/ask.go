package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/prompt"
	"github.com/ovation-project/ovation/ovf"
)

// askMissing asks for what a deployment lacks, and says whether anything was
// answered. Where there is nobody to ask nothing is.
func (a *app) askMissing(ctx context.Context, d *deployment, j *fit.Judgement) (asked bool, err error) {
	q := &questions{app: a, d: d, j: j}
	if q.networks, err = openNetworks(ctx, d.host, j); err != nil {
		return false, err
	}
	properties := j.Unset()
	if d.choices.AcceptLicences {
		q.j.Licences = nil
	}
	if len(q.j.Licences)+len(properties)+len(q.networks) == 0 {
		return false, nil
	}
	q.to = prompt.New(a.stdin, a.err)
	if q.to == nil {
		return false, nil
	}
	defer func() { err = errors.Join(err, q.to.Close()) }()
	if err := q.askLicences(ctx); err != nil {
		return true, err
	}
	if err := q.askProperties(ctx, properties); err != nil {
		return true, err
	}
	return true, q.askNetworks(ctx)
}

// questions are put for one deployment.
type questions struct {
	app *app
	to  *prompt.Asker
	d   *deployment
	j   *fit.Judgement
	// networks are those that nobody chose anything for.
	networks []plan.Network
}

// openNetworks are the networks for which somebody may want to choose.
func openNetworks(ctx context.Context, host hypervisor.Host, j *fit.Judgement) (open []plan.Network, err error) {
	for _, n := range j.Networks {
		if n.Reason != "" && n.Name != "" {
			open = append(open, n)
		}
	}
	if len(open) == 0 {
		return nil, nil
	}
	have, err := activeNetworks(ctx, host)
	if err != nil || len(have) < 2 {
		return nil, err
	}
	return open, nil
}

func activeNetworks(ctx context.Context, host hypervisor.Host) ([]hypervisor.Network, error) {
	have, err := host.Networks(ctx)
	return slices.DeleteFunc(have, func(n hypervisor.Network) bool { return !n.Active }), err
}

// askLicences has the licences accepted.
func (q *questions) askLicences(ctx context.Context) error {
	if err := askLicences(ctx, q.to, q.j.Licences); err != nil {
		return err
	}
	if len(q.j.Licences) > 0 {
		q.d.choices.AcceptLicences = true
	}
	return nil
}

// askProperties asks for the values that are missing.
func (q *questions) askProperties(ctx context.Context, properties []*ovf.ResolvedProperty) error {
	category := ""
	for i, p := range properties {
		if i == 0 {
			q.to.Heading("Properties without a value")
		}
		if c := q.j.Resolved.Text(p.Category); c != category {
			category = c
			q.to.Heading(c)
		}
		if err := q.askProperty(ctx, p); err != nil {
			return fmt.Errorf("property %s: %w", p.FullKey, err)
		}
	}
	return nil
}

func (q *questions) askProperty(ctx context.Context, p *ovf.ResolvedProperty) error {
	label := cmp.Or(q.j.Resolved.Text(p.Label), p.FullKey)
	expects := p.Expects()
	if !p.Required() {
		expects += "; Enter leaves it without a value"
	}
	q.to.Say("%s (%s): %s", label, p.FullKey, expects)
	if text := q.j.Resolved.Text(p.Description); text != "" {
		q.to.Say("  %s", strings.Join(strings.Fields(text), " "))
	}
	check := func(value string) error {
		if value == "" && !p.Required() {
			return nil
		}
		return p.CheckValue(value)
	}
	var value string
	var err error
	choices := p.Choices()
	switch {
	case p.Password:
		value, err = q.to.Secret(ctx, p.Key, check)
	case choices != nil && p.Required():
		var i int
		if i, err = q.to.Choose(ctx, p.Key, choices, -1); err == nil {
			value = choices[i]
		}
	default:
		value, err = q.to.Ask(ctx, p.Key, "", check)
	}
	if err != nil || value == "" && !p.Required() {
		return err
	}
	q.d.choices.Resolve.Properties[p.FullKey] = value
	return nil
}

// askNetworks asks where networks lead.
func (q *questions) askNetworks(ctx context.Context) error {
	if len(q.networks) == 0 {
		return nil
	}
	have, err := activeNetworks(ctx, q.d.host)
	if err != nil {
		return err
	}
	var names []string
	for _, n := range have {
		names = append(names, n.Name)
	}
	for _, n := range q.networks {
		q.to.Heading("Network " + n.Name)
		if text := q.describe(n.Name); text != "" {
			q.to.Say("  %s", text)
		}
		i, err := q.to.Choose(ctx, "connect it to", names, max(0, slices.Index(names, n.Host)))
		if err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		q.d.choices.Networks = append(q.d.choices.Networks, n.Name+"="+names[i])
	}
	return nil
}

// describe is what the descriptor says of a network.
func (q *questions) describe(name string) string {
	for _, n := range q.j.Resolved.Envelope.Networks {
		if n.Name == name {
			return strings.Join(strings.Fields(q.j.Resolved.Text(n.Description)), " ")
		}
	}
	return ""
}
