package ovf

import "testing"

func TestExpects(t *testing.T) {
	for _, test := range []struct {
		p    Property
		want string
	}{
		{Property{Type: "string"}, "text"},
		{Property{Type: "string", Qualifiers: "MinLen(2) MaxLen(8)"}, "text of 2 to 8 characters"},
		{Property{Type: "string", Qualifiers: "MinLen(2)"}, "text of at least 2 characters"},
		{Property{Type: "string(..64)"}, "text of up to 64 characters"},
		{Property{Type: "string", Password: true, Qualifiers: "MinLen(8)"}, "a password of at least 8 characters"},
		{Property{Type: "string", Qualifiers: `ValueMap{"dhcp","static"}`}, "one of dhcp, static"},
		{Property{Type: "string", VMwareQualifiers: "Ip"}, "an IP address"},
		{Property{Type: "uint8"}, "a whole number from 0 to 255"},
		{Property{Type: "sint16"}, "a whole number from -32768 to 32767"},
		{Property{Type: "sint64"}, "a whole number"},
		{Property{Type: "uint32"}, "a whole number from 0 on"},
		{Property{Type: "int(1..65535)"}, "a whole number from 1 to 65535"},
		{Property{Type: "uint16", Qualifiers: "MinValue(80), MaxValue(90)"}, "a whole number from 80 to 90"},
		{Property{Type: "boolean"}, "true or false"},
		{Property{Type: "real32"}, "a number"},
		{Property{Type: "ip:LAN"}, "an IP address"},
		{Property{Type: "string", Qualifiers: "MinLen("}, "text"},
	} {
		if got := test.p.Expects(); got != test.want {
			t.Errorf("%s %s %s: %q, want %q", test.p.Type, test.p.Qualifiers, test.p.VMwareQualifiers, got, test.want)
		}
	}
}

func TestRequired(t *testing.T) {
	for _, test := range []struct {
		p    ResolvedProperty
		want bool
	}{
		{ResolvedProperty{Property: &Property{Type: "string", UserConfigurable: true}}, false},
		{ResolvedProperty{Property: &Property{Type: "string", Qualifiers: "MinLen(1)", UserConfigurable: true}}, true},
		{ResolvedProperty{Property: &Property{Type: "uint8", UserConfigurable: true}}, true},
		{ResolvedProperty{Property: &Property{Type: "uint8"}}, false},
		{ResolvedProperty{Property: &Property{Type: "uint8", UserConfigurable: true}, Set: true, Value: "1"}, false},
		{ResolvedProperty{Property: &Property{Type: "ip:LAN", UserConfigurable: true}}, false},
	} {
		if got := test.p.Required(); got != test.want {
			t.Errorf("%+v: %v", test.p.Property, got)
		}
	}
}
