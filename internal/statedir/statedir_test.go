package statedir

import "testing"

func TestPath(t *testing.T) {
	for _, test := range [][3]string{{"/state", "/home/me", "/state/ovation/a/b"}, {"", "/home/me", "/home/me/.local/state/ovation/a/b"}, {"relative", "/home/me", "/home/me/.local/state/ovation/a/b"}, {"", "", ""}} {
		t.Setenv("XDG_STATE_HOME", test[0])
		t.Setenv("HOME", test[1])
		if got, err := Path("a", "b"); got != test[2] || (err != nil) != (test[2] == "") {
			t.Errorf("%q: %s, %v", test, got, err)
		}
	}
}
