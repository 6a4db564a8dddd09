package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/internal/term"
)

func newVerifyCommand(a *app) *cobra.Command {
	var requireManifest bool
	c := &cobra.Command{
		Use:   "verify LOCATOR",
		Short: "Compare a package's files with its manifest and descriptor",
		Long: `Verify reads every file of a package once and compares its digest with the
manifest and its size with the descriptor. It says which files are altered,
missing, not listed, or not the package's.

With - as the locator an archive is read from standard input, front to back.`,
		Example: `  ovation verify appliance.ova
  ovation verify https://example.com/appliance.ova
  curl -s https://example.com/appliance.ova | ovation verify -
  ovation verify folder/ --require-manifest --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.verify(c, args[0])
			if err != nil {
				return err
			}
			return a.reportVerify(r, requireManifest)
		},
	}
	c.Flags().BoolVar(&requireManifest, "require-manifest", false, "fail where there is no manifest")
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

// verifyResult is the JSON shape of the command.
type verifyResult struct {
	APIVersion string `json:"apiVersion"`
	Intact     bool   `json:"intact"`
	*appliance.Report
}

var errNoManifest = errors.New("there is no manifest, so nothing shows that the package is intact")

func (a *app) reportVerify(r *appliance.Report, requireManifest bool) error {
	err := r.Err()
	if err == nil && r.Manifest == "" && requireManifest {
		err = errNoManifest
	}
	if a.json {
		if jsonErr := a.printJSON(verifyResult{"ovation/verify/v1", err == nil && r.Manifest != "", r}); jsonErr != nil {
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
	for _, n := range r.Notes {
		a.note("%s", n)
	}
	switch {
	case err != nil:
		return err
	case r.Manifest == "":
		a.warn("%v", errNoManifest)
	default:
		a.out.Printf("%s\n", a.out.Styled(term.Green, fmt.Sprintf("intact: every file is as %s says", term.Clean(r.Manifest))))
	}
	return nil
}
