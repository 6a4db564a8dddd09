package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/verdict"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/term"
)

func newVerifyCommand(a *app) *cobra.Command {
	var t trustFlags
	var deep bool
	c := &cobra.Command{
		Use:   "verify LOCATOR",
		Short: "Compare a package's files with its manifest and descriptor",
		Long: `Verify reads every file of a package once and compares its digest with the
manifest and its size with the descriptor. It says which files are altered,
missing, not listed, or not the package's; where the package has chunk digests,
also which bytes of a file are altered. It ends with one answer:

  trusted                     intact, and signed by somebody who is trusted
  signed by an unknown party  intact; each reason against the signer is said
  intact but unsigned         nobody vouches for it
  without a manifest          nothing shows that it is intact
  incomplete, altered         not to be used (exit code 4)

Trusted are the system's certificate authorities, those of --trust and the
certificates of --pin. Either of these two flags asks for a signature by them.
--deep also reads all disks and checks their structure and the checksum of every
compressed block, and says which sectors a fault costs.

With - as the locator an archive is read from standard input, front to back.`,
		Example: `  ovation verify appliance.ova
  ovation verify https://example.com/appliance.ova
  curl -s https://example.com/appliance.ova | ovation verify -
  ovation verify folder/ --require-manifest --json
  ovation verify appliance.ova --trust vendor-ca.pem
  ovation verify appliance.ova --deep`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			policy, store, err := t.resolve()
			if err != nil {
				return err
			}
			if deep && args[0] == "-" {
				return usagef("--deep reads disks in any order, and standard input is read once: save the archive to a file")
			}
			r, err := a.verify(c, args[0])
			if err != nil {
				return err
			}
			result := verifyResult{APIVersion: "ovation/verify/v1", Report: r, Verdict: verdict.Of(r, store, time.Now())}
			if deep {
				if result.Disks, err = a.verifyDisks(c.Context(), args[0]); err != nil {
					return err
				}
			}
			return a.reportVerify(result, policy, t.requireManifest)
		},
	}
	t.register(c.Flags())
	c.Flags().BoolVar(&deep, "deep", false, "check the structure and the compressed blocks of every disk as well")
	return c
}

func (a *app) verify(c *cobra.Command, locator string) (*appliance.Report, error) {
	bars := a.newProgress()
	defer bars.Wait()
	p, in, err := a.openOnce(c.Context(), locator)
	if err != nil {
		return nil, err
	}
	if in != nil {
		defer in.Close()
		task := bars.Track("the archive", -1)
		r, err := appliance.VerifyStream(c.Context(), in, appliance.VerifyOptions{Progress: task.Add})
		task.Done(err)
		return r, err
	}
	defer p.Close()
	task := bars.Track(p.DescriptorName(), p.Size())
	r, err := p.Verify(c.Context(), appliance.VerifyOptions{Progress: task.Add})
	task.Done(err)
	return r, err
}

// verifyDisks checks every disk of a package.
func (a *app) verifyDisks(ctx context.Context, locator string) ([]diskCheck, error) {
	p, err := a.openPackage(ctx, locator)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range p.Document().Envelope().Disks {
		if d.FileRef != "" {
			ids = append(ids, d.ID)
		}
	}
	if err := p.Close(); err != nil {
		return nil, err
	}
	all := []diskCheck{}
	for _, id := range ids {
		const mostFaults = 1000
		r, err := a.checkDisk(ctx, locator+"#"+id, "", mostFaults, 0)
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			// One that cannot be looked into says nothing of the others.
			r.Name, r.Faults, r.err, r.Error = locator+"#"+id, []diskFault{}, err, err.Error()
		}
		all = append(all, r)
	}
	return all, nil
}

// verifyResult is the JSON shape of the command.
type verifyResult struct {
	APIVersion string `json:"apiVersion"`
	Intact     bool   `json:"intact"`
	*verdict.Verdict
	*appliance.Report
	Disks []diskCheck `json:"disks,omitempty"`
}

var errNoManifest = errors.New("there is no manifest, so nothing shows that the package is intact")

// judge gives what the exit code says.
func (r *verifyResult) judge(policy verdict.Policy, requireManifest bool) (warning string, err error) {
	err = r.Err()
	if err == nil && r.Manifest == "" && requireManifest {
		err = errNoManifest
	}
	if err == nil {
		warning, err = policy.Decide(r.Verdict)
	}
	for _, d := range r.Disks {
		switch {
		case d.err != nil && (err == nil || !errors.Is(d.err, appliance.ErrIncomplete)): // else it was said
			err = errors.Join(err, d.err)
		case d.err == nil && !d.Intact:
			err = errors.Join(err, fmt.Errorf("%s: %w: %d faults, %d sectors lost", d.Name, disk.ErrCorrupt, d.FaultCount, d.LostSectors))
		}
	}
	return warning, err
}

func (a *app) reportVerify(r verifyResult, policy verdict.Policy, requireManifest bool) error {
	warning, err := r.judge(policy, requireManifest)
	r.Intact = r.Err() == nil && r.Manifest != "" && r.Answer != verdict.Altered && r.Answer != verdict.Incomplete
	if a.json {
		if jsonErr := a.printJSON(r); jsonErr != nil {
			return jsonErr
		}
		if err != nil {
			return reportedError{err}
		}
		return nil
	}
	t := term.NewTable("FILE", ">SIZE", "ALGORITHM", "STATE")
	for _, f := range r.Files {
		t.Row(f.Name, size(f.Size), f.Algorithm, string(f.State))
	}
	t.Print(a.out)
	for _, d := range r.Disks {
		d.print(a.out)
	}
	for _, n := range r.Notes {
		a.note("%s", n)
	}
	if r.Intact {
		a.out.Printf("%s\n", a.out.Styled(term.Green, fmt.Sprintf("intact: every file is as %s says", term.Clean(r.Manifest))))
	}
	switch {
	case err != nil:
		return err
	case r.Manifest == "":
		a.warn("%v", errNoManifest)
	case warning != "":
		a.warn("%s", warning)
	default:
		a.out.Printf("%s\n", a.out.Styled(term.Green, term.CleanText(r.Verdict.String())))
	}
	return nil
}
