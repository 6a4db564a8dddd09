package console

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func plain(s string, step int) string {
	var b bytes.Buffer
	p := NewPlain(&b)
	for len(s) > 0 {
		n := min(step, len(s))
		p.Write([]byte(s[:n]))
		s = s[n:]
	}
	p.Flush()
	return b.String()
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"plain\r\ntext\ttabs\n":             "plain\ntext\ttabs\n",
		"\x1b[31mred\x1b[0m":                "red",
		"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe":  "BdsDxe",
		"\x1b]0;title\x07after":             "after",
		"\x1b]0;title\x1b\\after":           "after",
		"\x1bPdcs\x1b\\after":               "after",
		"\x1b(Bafter":                       "after",
		"\x1bcafter":                        "after",
		"a\x00b\x07c\x08d\x7fe":             "abcde",
		"Grüße €":                           "Grüße €",
		"c1 \u009b31m":                      "c1 31m",
		"broken \x1b]0;no end\nnext":        "broken \nnext",
		"cut \x1b[":                         "cut ",
		"latin\xe9":                         "latin\xe9",
		"\xc2":                              "\xc2",
		"\u00a0":                            "\u00a0",
		"\x1b\x1b[1mx":                      "x",
		"\x1b[1\x1b[2mx":                    "x",
		"\x1b]" + strings.Repeat("y", 5000): strings.Repeat("y", 5000-maxSequence+1),
	} {
		for _, step := range []int{1, 3, 1 << 20} {
			if got := plain(in, step); got != want {
				t.Errorf("%.40q by %d gives %.40q, want %.40q", in, step, got, want)
			}
		}
	}
}

func TestPlainLeavesNoControl(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("\x1b[]m;\n\r\u009b\x07")))).Draw(t, "in")
		out := plain(in, rapid.IntRange(1, 10).Draw(t, "step"))
		for _, r := range out {
			if r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q gives %q", in, out)
			}
		}
		if strings.Count(out, "\n") != strings.Count(in, "\n") {
			t.Fatalf("%q loses lines: %q", in, out)
		}
	})
}

func TestPrefixed(t *testing.T) {
	var b bytes.Buffer
	var mu sync.Mutex
	one, two := &Prefixed{W: &b, Prefix: "one | ", Mu: &mu}, &Prefixed{W: &b, Prefix: "two | ", Mu: &mu}
	one.Write([]byte("a"))
	two.Write([]byte("x\ny"))
	one.Write([]byte("b\n"))
	two.Flush()
	two.Flush()
	if got, want := b.String(), "two | x\none | ab\ntwo | y\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b.Reset()
	one.Write(bytes.Repeat([]byte("z"), 3*maxLine))
	if b.Len() == 0 {
		t.Error("a line without an end is held back for ever")
	}
}

func TestKeys(t *testing.T) {
	var guest bytes.Buffer
	presses := 0
	Keys(&guest, iotest.OneByteReader(strings.NewReader("ls\r\x1d\x03x\x1dy")), func() { presses++ })
	if guest.String() != "ls\r\x03xy" || presses != 2 {
		t.Errorf("the guest got %q, the escape key came %d times", guest.String(), presses)
	}
}
