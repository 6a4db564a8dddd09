package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// pages are those that tell people who come from other tools what to type.
var pages = []string{"ovftool.md", "coming-from.md", "migrate.md"}

var (
	inCode   = regexp.MustCompile("`([^`]+)`")
	flagWord = regexp.MustCompile(`^--?[a-z][a-z-]*`)
)

// TestPagesAreTrue holds every command and flag that the pages name against
// those that there are.
func TestPagesAreTrue(t *testing.T) {
	for _, page := range pages {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		check := func(line string) {
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != "ovation" {
				return
			}
			n++
			if err := exists(words[1:]); err != "" {
				t.Errorf("%s: %s: %s", page, line, err)
			}
		}
		for _, m := range inCode.FindAllStringSubmatch(string(text), -1) {
			check(m[1])
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "    ovation ") {
				check(line)
			}
		}
		if n < 5 {
			t.Errorf("%s names %d commands only", page, n)
		}
	}
}

// exists says what of a command line there is not, "" where there is all of it.
func exists(words []string) string {
	c := newApp(strings.NewReader(""), io.Discard, io.Discard).root()
	c.InitDefaultVersionFlag()
	for len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		var sub *cobra.Command
		for _, s := range c.Commands() {
			if s.Name() == words[0] {
				sub = s
			}
		}
		if sub == nil {
			break
		}
		c, words = sub, words[1:]
	}
	if !c.HasParent() && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		return "there is no command " + words[0]
	}
	c.InitDefaultHelpFlag()
	for _, w := range words {
		name := flagWord.FindString(strings.Trim(w, "'\"`,.;:()"))
		if name == "" {
			continue
		}
		if long, ok := strings.CutPrefix(name, "--"); ok {
			if c.Flags().Lookup(long) == nil && c.InheritedFlags().Lookup(long) == nil {
				return c.CommandPath() + " has no flag " + name
			}
		} else if c.Flags().ShorthandLookup(name[1:2]) == nil && c.InheritedFlags().ShorthandLookup(name[1:2]) == nil {
			return c.CommandPath() + " has no flag " + name
		}
	}
	return ""
}

// TestPagesAreHeld sees that what there is not is found.
func TestPagesAreHeld(t *testing.T) {
	for line, found := range map[string]bool{
		"deploy --to X": true, "deploy a.ova --nosuch": false, "nosuch": false, "disk convert a b --subformat x": true, "disk convert --nosuch": false,
		"--version": true, "export x -o y": true, "export x -z y": false, "deploy --json": true, "deploy --help": true,
	} {
		if got := exists(strings.Fields(line)) == ""; got != found {
			t.Errorf("%s: found %v", line, got)
		}
	}
}

// TestEveryOptionOfOvftool wants each row to be of one of the three kinds, with
// a reason where there is nothing, and no option twice.
func TestEveryOptionOfOvftool(t *testing.T) {
	text, err := os.ReadFile("../../docs/ovftool.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `-") {
			continue
		}
		option, kind, here := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])
		if seen[option] {
			t.Errorf("%s is there twice", option)
		}
		seen[option] = true
		switch kind {
		case "same", "better":
			if here == "" {
				t.Errorf("%s: it does not say what is %s", option, kind)
			}
		case "not needed":
			if !strings.HasPrefix(here, "because ") && !strings.HasPrefix(here, "as ") {
				t.Errorf("%s: it does not say why", option)
			}
		default:
			t.Errorf("%s: %q is none of the three", option, kind)
		}
	}
	for _, want := range ovftoolOptions {
		found := false
		for option := range seen {
			found = found || strings.Contains(option, "`--"+want+"`")
		}
		if !found {
			t.Errorf("--%s of ovftool is not in the table", want)
		}
	}
}

// ovftoolOptions are those that ovftool 5.1 lists.
var ovftoolOptions = strings.Fields(`
acceptAllEulas addDevice allowAllExtraConfig allowExtraConfig annotation authdPortSource authdPortTarget chunkSize compress computerName
configFile coresPerSocket datastore decodeBase64 defaultStorageProfile defaultStorageRawProfile deploymentOption disableVerification diskMode
diskSize eula exportDeviceSubtypes exportFlags extraConfig fencedMode help hideEula httpVersion importAsTemplate ipAllocationPolicy ipProtocol
lax locale machineOutput makeDeltaDisks maxVirtualHardwareVersion memorySize multiDatastore name net network nic noDestinationSSLVerify noDisks
noImageFiles noNvramFile noProxyVerify noSSLVerify noSourceSSLVerify numberOfCpus overwrite packageCert parallelThreads powerOffSource
powerOffTarget powerOn preCheck privateKey privateKeyPassword prop proxy proxyCert proxyNTLMAuth proxyPassword proxyUsername pullUploadMode quiet
requireSignature schemaValidate shaAlgorithm signCommand skipManifestCheck skipManifestGeneration sourcePEM sourceSSLThumbprint sourceType
sslCipherList sslVersion storageProfile targetPEM targetSSLThumbprint targetType vCloudTemplate vService verifyOnly verifyViTargetManifest version
viCpuResource viMemoryResource vmFolder`)
