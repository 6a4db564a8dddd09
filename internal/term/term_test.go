package term

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 30: "1 GiB",
		1<<20 - 1: "1 MiB", 10 << 40: "10 TiB", -1: "unknown",
	} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int64
		err  string
	}{
		{in: "0", want: 0},
		{in: "512", want: 512},
		{in: "2G", want: 2 << 30},
		{in: "2 GiB", want: 2 << 30},
		{in: "2GB", want: 2e9},
		{in: "1.5k", want: 1536},
		{in: "8191PiB", err: "not a size"},
		{in: "9223372036854775807", want: 9223372036854775807},
		{in: "9007199254740993T", err: "more bytes"},
		{in: "0.3", err: "whole number"},
		{in: "", err: "not a size"},
		{in: "GiB", err: "not a size"},
		{in: "-1", err: "not a size"},
		{in: "1e3", err: "not a size"},
		{in: "NaN", err: "not a size"},
	} {
		got, err := ParseSize(c.in)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("ParseSize(%q): error %v, want one with %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", c.in, got, err, c.want)
		}
	}
}

func TestCleanLeavesNothingThatATerminalActsOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		for _, r := range Clean(s) {
			if unsafeRune(r) {
				t.Fatalf("Clean(%q) kept %U", s, r)
			}
		}
	})
	if got := Clean("a\x1b[31mb\nc\u202ed\x9b31m\ufffd"); got != `a\u001b[31mb c\u202ed\x9b31m`+"\ufffd" {
		t.Errorf("Clean = %q", got)
	}
}

// TestCleanJSON says the same in JSON, without what a terminal acts on.
func TestCleanJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{rapid.String().Draw(t, "key"): rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\u009b2J", "\u202eabc", "\U000e0041"})).Draw(t, "value")}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		clean := CleanJSON(text)
		var got map[string]string
		if err := json.Unmarshal(clean, &got); err != nil {
			t.Fatalf("%v: %s", err, clean)
		}
		var same map[string]string
		if err := json.Unmarshal(text, &same); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(same, got); diff != "" {
			t.Error(diff)
		}
		for _, r := range string(clean) {
			if unsafeRune(r) {
				t.Fatalf("%q kept %U", clean, r)
			}
		}
	})
}

// TestTableOfOneLongName has a name that does not make every line as long.
func TestTableOfOneLongName(t *testing.T) {
	table := NewTable("NAME", "WHAT")
	long := strings.Repeat("x", 1<<20)
	table.Row(long, "long")
	for range 10000 {
		table.Row("short", "")
	}
	var b bytes.Buffer
	table.Print(&Printer{w: &b})
	if n := b.Len(); n > 4<<20 {
		t.Errorf("%d bytes", n)
	}
	if !strings.Contains(b.String(), long+"  long\n") {
		t.Error("the long name is cut")
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	table := NewTable("NAME", ">SIZE", "DESCRIPTION")
	table.Row("disk1", "10 GiB", strings.Repeat("long ", 40))
	table.Row("d\x1b[2J", "1 B")
	var b bytes.Buffer
	table.Print(&Printer{w: &b, width: 40})
	for _, l := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if n := len([]rune(l)); n > 40 {
			t.Errorf("line of %d columns: %q", n, l)
		}
	}
	b.Reset()
	table.Print(&Printer{w: &b})
	want := "NAME          SIZE  DESCRIPTION\n" +
		"disk1       10 GiB  " + strings.TrimRight(strings.Repeat("long ", 40), " ") + "\n" +
		"d\\u001b[2J     1 B\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("a table that is not on a terminal (-want +got):\n%s", diff)
	}
}

func TestWrap(t *testing.T) {
	if diff := cmp.Diff([]string{"one two", "three", "four-and-more", "x"}, Wrap("one two three four-and-more x", 8)); diff != "" {
		t.Error(diff)
	}
}

func TestProgressInPlainLines(t *testing.T) {
	var b bytes.Buffer
	p := NewProgress(New(&b))
	task := p.Track("disk1", 4096)
	task.Add(4096)
	task.Done(nil)
	task.Done(errors.New("too late"))
	other := p.Track("disk2", 4096)
	other.Set(1024)
	other.Done(errors.New("broken"))
	p.Wait()
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "disk1: 4 KiB in ") ||
		!strings.HasPrefix(lines[1], "disk2: 25%, 1 KiB of 4 KiB") || !strings.HasSuffix(lines[1], ", stopped") {
		t.Errorf("got %q", lines)
	}
	var none *Progress
	none.Track("x", 1).Add(1)
	none.Track("x", 1).Done(nil)
	none.Wait()
}
