package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/encryption"
	"github.com/ovation-project/ovation/appliance/summary"
	"github.com/ovation-project/ovation/deploy/portability"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/ovf"
)

func newInspectCommand(a *app) *cobra.Command {
	var opt summary.Options
	var eula bool
	c := &cobra.Command{
		Use:   "inspect LOCATOR",
		Short: "Say what is in a package",
		Long: `Inspect says what is in a package: product, systems, hardware, disks, networks,
deployment options, properties, and how portable it is. It reads the descriptor and no disk; of a package
on a web server it fetches only the parts that it needs.`,
		Example: `  ovation inspect appliance.ova
  ovation inspect https://example.com/appliance.ova --json
  ovation inspect folder/appliance.ovf --option large --locale de`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := a.openPackage(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer p.Close()
			s, err := summary.Of(c.Context(), p, opt)
			if err != nil {
				return err
			}
			level := portabilityOf(p, s)
			switch {
			case a.json:
				return a.printJSON(struct {
					*summary.Summary
					Portability *portability.Assessment `json:"portability"`
				}{s, level})
			case eula:
				return printEULAs(a.out, s)
			}
			printSummary(a.out, s)
			a.out.Printf("\n")
			printPortability(a.out, level)
			return printEncryption(a.out, p.Document())
		},
	}
	c.Flags().StringVar(&opt.Option, "option", "", "the deployment option to show hardware and values for")
	c.Flags().StringVar(&opt.Locale, "locale", userLocale(), "the language of the texts, such as de or de-DE")
	c.Flags().BoolVar(&eula, "eula", false, "print the whole text of the licence agreements and nothing else")
	return c
}

// portabilityOf is a package's level for the option that is shown.
func portabilityOf(p *appliance.Package, s *summary.Summary) *portability.Assessment {
	opt := portability.Options{}
	for _, o := range s.Options {
		if o.Chosen {
			opt.Option = o.ID
		}
	}
	for _, e := range p.Entries() {
		opt.Files = append(opt.Files, e.Name)
	}
	return portability.Of(p.Document().Envelope(), opt)
}

// printEncryption says which files are encrypted, and how their keys are come
// by.
func printEncryption(p *term.Printer, doc *ovf.Document) error {
	files, err := encryption.Read(doc)
	if err != nil || len(files) == 0 {
		return err
	}
	section(p, "Encrypted")
	t := term.NewTable("FILE", "CIPHER", "KEY FROM")
	t.Indent = 2
	for _, f := range files {
		var from []string
		for _, k := range f.Keys {
			from = append(from, strings.TrimSpace(k.Method+" "+k.Recipient))
		}
		t.Row(f.Href, f.Cipher.Name, strings.Join(from, " or "))
	}
	t.Print(p)
	return nil
}

// userLocale is the language of the environment, "" for none.
func userLocale() string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v, _, _ = strings.Cut(v, ".")
			if v == "C" || v == "POSIX" {
				return ""
			}
			return strings.ReplaceAll(v, "_", "-")
		}
	}
	return ""
}

func printEULAs(p *term.Printer, s *summary.Summary) error {
	if len(s.EULAs) == 0 {
		return fmt.Errorf("the package has no licence agreement")
	}
	for i, e := range s.EULAs {
		if i > 0 {
			p.Printf("\n")
		}
		p.Printf("%s\n", term.CleanText(e.Text))
	}
	return nil
}

func printSummary(p *term.Printer, s *summary.Summary) {
	facts(p, 0, [][2]string{
		{"Package", s.Locator + " (" + s.Kind + ")"},
		{"OVF version", s.OVFVersion},
		{"Manifest", manifestText(s)},
		{"Certificate", orNone(s.Certificate)},
	})
	for _, x := range s.Products {
		version := x.FullVersion
		if version == "" {
			version = x.Version
		}
		facts(p, 0, [][2]string{{"Product", strings.TrimSpace(x.Product + " " + version)}, {"Vendor", x.Vendor}, {"URL", x.ProductURL}})
	}
	for _, e := range s.EULAs {
		lines := strings.Count(e.Text, "\n") + 1
		first, _, _ := strings.Cut(strings.TrimSpace(e.Text), "\n")
		facts(p, 0, [][2]string{{"EULA", fmt.Sprintf("%.60s (%d lines; --eula prints them)", first, lines)}})
	}
	printOptions(p, s)
	if len(s.Disks) > 0 {
		section(p, "Disks")
		t := term.NewTable("ID", ">CAPACITY", ">FILE SIZE", "FILE", "FORMAT")
		t.Indent = 2
		for _, d := range s.Disks {
			t.Row(d.ID, size(d.Capacity), size(d.FileSize), d.Href, shortFormat(d.Format))
		}
		t.Print(p)
	}
	printOtherFiles(p, s)
	if len(s.Networks) > 0 {
		section(p, "Networks")
		t := term.NewTable("NAME", "DESCRIPTION")
		t.Indent = 2
		for _, n := range s.Networks {
			t.Row(n.Name, n.Description)
		}
		t.Print(p)
	}
	if s.Content != nil {
		printContent(p, s.Content, 0)
	}
	for _, n := range s.Notes {
		p.Printf("\n%s %s\n", p.Styled(term.Yellow, "note:"), term.Clean(n))
	}
	for _, n := range s.Problems {
		p.Printf("\n%s %s\n", p.Styled(term.Red, "problem:"), term.Clean(n))
	}
}

func section(p *term.Printer, title string) {
	p.Printf("\n")
	p.Heading(title)
}

// facts prints names with values; those without a value are left out.
func facts(p *term.Printer, indent int, pairs [][2]string) {
	t := term.NewTable("", "")
	t.Indent = indent
	for _, f := range pairs {
		if f[1] != "" {
			t.Row(fmt.Sprintf("%-13s", f[0]+":"), f[1])
		}
	}
	t.Print(p)
}

func manifestText(s *summary.Summary) string {
	if s.Manifest == "" {
		return "none"
	}
	return fmt.Sprintf("%s (%s)", s.Manifest, strings.Join(s.Algorithms, ", "))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func size(n int64) string {
	if n < 0 {
		return "-"
	}
	return term.Size(n)
}

// shortFormat leaves out of a format's URI what all of them have.
func shortFormat(uri string) string {
	_, last, ok := strings.Cut(uri, "#")
	if ok && last != "" {
		return last
	}
	return uri[strings.LastIndexByte(uri, '/')+1:]
}

func printOptions(p *term.Printer, s *summary.Summary) {
	if len(s.Options) == 0 {
		return
	}
	section(p, "Deployment options")
	t := term.NewTable("", "ID", "LABEL", "DESCRIPTION")
	t.Indent = 2
	for _, o := range s.Options {
		mark := ""
		if o.Chosen {
			mark = "*"
		}
		t.Row(mark, o.ID, o.Label, o.Description)
	}
	t.Print(p)
}

// printOtherFiles lists the files that are no disks, and those that are missing.
func printOtherFiles(p *term.Printer, s *summary.Summary) {
	t := term.NewTable("NAME", ">SIZE", "")
	t.Indent = 2
	for _, f := range s.Files {
		disk := false
		for _, d := range s.Disks {
			disk = disk || d.Href == f.Href
		}
		switch {
		case f.Missing:
			t.Row(f.Href, "-", "missing")
		case !disk:
			t.Row(f.Href, size(f.Size))
		}
	}
	if t.Len() > 0 {
		section(p, "Other files")
		t.Print(p)
	}
}

func printContent(p *term.Printer, c *summary.Content, depth int) {
	name := c.ID
	if c.Name != "" && c.Name != c.ID {
		name += fmt.Sprintf(" (%s)", c.Name)
	}
	kind := "Virtual system"
	if c.System == nil {
		kind = "Collection"
	}
	indent := 2 * depth
	p.Printf("\n%s", strings.Repeat(" ", indent))
	p.Heading(kind + " " + name)
	if s := c.System; s != nil {
		facts(p, indent+2, [][2]string{
			{"OS", s.OS},
			{"Family", strings.Join(s.Families, " ")},
			{"Firmware", s.Firmware},
			{"CPUs", cpus(s)},
			{"Memory", memory(s)},
			{"Transport", strings.Join(s.Transports, " ")},
		})
		printItems(p, s, indent+2)
	}
	printProperties(p, c, indent+2)
	if len(c.Startup) > 0 {
		t := term.NewTable("STARTS", ">ORDER", ">DELAY", "")
		t.Indent = indent + 2
		for _, i := range c.Startup {
			wait := ""
			if i.WaitingForGuest {
				wait = "waits for the guest"
			}
			t.Row(i.ID, fmt.Sprint(i.Order), fmt.Sprintf("%d s", i.StartDelay), wait)
		}
		t.Print(p)
	}
	for _, child := range c.Children {
		printContent(p, child, depth+1)
	}
}

func cpus(s *summary.System) string {
	if s.CPUs == 0 {
		return ""
	}
	if s.CoresPerSocket > 1 {
		return fmt.Sprintf("%d, %d cores a socket", s.CPUs, s.CoresPerSocket)
	}
	return fmt.Sprint(s.CPUs)
}

func memory(s *summary.System) string {
	if s.MemoryBytes < 0 {
		return ""
	}
	return term.Size(s.MemoryBytes)
}

func printItems(p *term.Printer, s *summary.System, indent int) {
	t := term.NewTable("DEVICE", "MODEL", "AT", "CONNECTED TO")
	t.Indent = indent
	names := map[string]string{}
	for _, i := range s.Items {
		names[i.InstanceID] = shortened(i.Name)
	}
	for _, i := range s.Items {
		if i.ResourceType == 3 || i.ResourceType == 4 {
			continue // said above
		}
		at := names[i.Parent]
		if at != "" && i.Address != "" {
			at += ":" + i.Address
		}
		to := append(append([]string(nil), i.Connections...), i.Resources...)
		name := i.Name
		if name == "" {
			name = i.Kind
		}
		if !i.Required {
			name += " (optional)"
		}
		t.Row(name, strings.Join(i.SubTypes, " "), at, strings.Join(to, " "))
	}
	if t.Len() > 0 {
		t.Print(p)
	}
}

// shortened is a name that is said of much that refers to it.
func shortened(name string) string {
	const most = 64
	n := 0
	for i := range name {
		if n++; n > most {
			return name[:i] + "…"
		}
	}
	return name
}

func printProperties(p *term.Printer, c *summary.Content, indent int) {
	t := term.NewTable("PROPERTY", "TYPE", "VALUE", "LABEL")
	t.Indent = indent
	for _, q := range c.Properties {
		value := q.Value
		switch {
		case q.Password && q.HasValue:
			value = "********"
		case !q.HasValue && q.UserConfigurable:
			value = "(to be set)"
		}
		t.Row(q.Key, q.Type, value, q.Label)
	}
	if t.Len() > 0 {
		t.Print(p)
	}
}
