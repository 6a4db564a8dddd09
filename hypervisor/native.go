package hypervisor

// Native is what a host says of a machine in words of its own kind, for those
// who know them: a descriptor can say it to other hosts of the kind.
type Native struct {
	// Family is the family of virtual hardware, such as vmx-19; OS VMware's
	// name of the guest operating system, such as debian12_64Guest.
	Family, OS string
	// Note is what people wrote down with the machine.
	Note string
	// Transports are the ways in which its guest gets an environment document.
	Transports []string
	// Products are what is in it, with properties; EULAs the licences.
	Products []NativeProduct
	EULAs    []string
	// Settings are the host's further ones. They may be secret.
	Settings []NativeSetting
}

// NativeSetting is one of a host's further settings (VMware's extraConfig).
type NativeSetting struct{ Key, Value string }

// NativeProduct is a product in a machine.
type NativeProduct struct {
	Class, Instance               string
	Name, Vendor                  string
	Version, FullVersion          string
	ProductURL, VendorURL, AppURL string
	Properties                    []NativeProperty
}

// NativeProperty is what can be set of a product. Its value is not told.
type NativeProperty struct {
	Key, Category, Label, Description string
	// Type is VMware's: string, password, int, boolean, ip, string(1..8), ….
	Type             string
	Default          string
	UserConfigurable bool
}
