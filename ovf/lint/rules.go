package lint

const (
	general    = "7 Envelope Element"
	references = "7.1 File References"
	extension  = "7.3 Extensibility"
	hardware   = "8.1 VirtualHardwareSection"
	elements   = "8.3 Virtual Hardware Elements"
	ranges     = "8.4 Ranges on Elements"
	diskClause = "9.1 DiskSection"
	netClause  = "9.2 NetworkSection"
	resources  = "9.3 ResourceAllocationSection"
	product    = "9.5 ProductSection"
	property   = "9.5.1 Property Elements"
	startup    = "9.7 StartupSection"
	deployment = "9.8 DeploymentOptionSection"
	texts      = "10 Internationalization"
	install    = "9.10 InstallSection"
	operating  = "9.9 OperatingSystemSection"
	archive    = "5.3 Distribution as a Single File"

	// What OVF 2.x added.
	environment = "EnvironmentFilesSection (2.x)"
	placement   = "PlacementGroupSection and PlacementSection (2.x)"
	scaleOut    = "ScaleOutSection (2.x)"

	// schema is DSP8023, which a descriptor has to be valid by.
	schema = "; DSP8023"
)

// rules is the table of all rules, by ID.
var rules = []Rule{
	{"OVF-ANN-001", Error, "9.4 AnnotationSection", "An AnnotationSection has an Annotation", "Add the Annotation element, or remove the section.", true},

	{"OVF-DEPL-001", Error, deployment, "A Configuration has an ID", "Give the Configuration an ovf:id.", false},
	{"OVF-DEPL-002", Error, deployment, "IDs of Configurations are unique", "Give each Configuration an ovf:id of its own.", false},
	{"OVF-DEPL-003", Error, deployment, "At most one Configuration is the default", "Set ovf:default=\"true\" on one Configuration only.", false},
	{"OVF-DEPL-004", Error, deployment, "Configurations that are referred to exist", "Name a Configuration of the DeploymentOptionSection, or add it there.", false},
	{"OVF-DEPL-005", Error, deployment, "A Configuration has a Label", "Add a Label, which is what people choose by.", true},
	{"OVF-DEPL-006", Error, deployment, "ovf:default is true or false", "Write ovf:default=\"true\" on one Configuration, and leave it out of the others.", false},
	{"OVF-DEPL-007", Error, deployment + schema, "A DeploymentOptionSection has a Configuration", "Add a Configuration, or remove the section.", true},
	{"OVF-DEPL-008", Warning, deployment + schema, "A Configuration has a Description", "Add a Description, which says when to choose it.", false},

	{"OVF-DISK-001", Error, diskClause, "A Disk has a diskId", "Give the Disk an ovf:diskId.", false},
	{"OVF-DISK-002", Error, diskClause, "IDs of Disks are unique", "Give each Disk an ovf:diskId of its own.", false},
	{"OVF-DISK-003", Error, diskClause, "A Disk has a capacity", "Give the Disk an ovf:capacity: a number, or ${property}.", false},
	{"OVF-DISK-004", Error, diskClause, "A capacity is a number of bytes above zero", "Write a whole number in units of ovf:capacityAllocationUnits.", false},
	{"OVF-DISK-005", Error, diskClause, "capacityAllocationUnits is a unit of bytes", "Write a programmatic unit such as \"byte * 2^30\".", false},
	{"OVF-DISK-006", Warning, diskClause, "capacityAllocationUnits is a programmatic unit", "Write \"byte * 2^20\" for megabytes, \"byte * 2^30\" for gigabytes.", false},
	{"OVF-DISK-007", Error, diskClause, "A Disk's fileRef is a File's ID", "Add the File to the References, or correct ovf:fileRef.", false},
	{"OVF-DISK-008", Error, diskClause, "A File is the content of one Disk", "Give each Disk a File of its own.", true},
	{"OVF-DISK-009", Error, diskClause, "A Disk has a format", "Give the Disk an ovf:format, the URI of its format.", true},
	{"OVF-DISK-010", Error, diskClause, "A Disk's parentRef is a Disk's ID", "Add the parent Disk, or correct ovf:parentRef.", false},
	{"OVF-DISK-011", Error, diskClause, "No Disk is a delta of itself", "Break the circle of ovf:parentRef.", false},
	{"OVF-DISK-012", Error, diskClause, "populatedSize is a number of bytes", "Write a whole number of bytes, or leave ovf:populatedSize out.", false},
	{"OVF-DISK-013", Warning, diskClause, "populatedSize is at most the capacity", "Write the number of bytes that the disk's data takes, or leave ovf:populatedSize out.", false},
	{"OVF-DISK-014", Error, diskClause, "A capacity refers to a property that exists", "Add the property, or correct ${…}.", false},

	{"OVF-ENV-001", Error, general, "The envelope is in a namespace of OVF", "Use http://schemas.dmtf.org/ovf/envelope/1 or /2.", false},
	{"OVF-ENV-002", Error, "7.2 Content Element", "There is one VirtualSystem or VirtualSystemCollection", "Add it, or put several VirtualSystems into a VirtualSystemCollection.", false},
	{"OVF-ENV-003", Error, references, "There is a References element", "Add <References/>, empty where there are no files.", false},
	{"OVF-ENV-004", Error, general, "References, sections, content and Strings come in this order", "Move the element to its place.", true},
	{"OVF-ENV-005", Warning, general, "ovf:version fits the namespace", "Write the version of the standard that the namespace is of.", false},
	{"OVF-ENV-006", Error, "7.2 Content Element", "A VirtualSystem and a VirtualSystemCollection have an ID", "Give it an ovf:id.", false},
	{"OVF-ENV-007", Error, "7.2 Content Element", "IDs of virtual systems and collections are unique", "Give each an ovf:id of its own.", false},
	{"OVF-ENV-008", Warning, "7.2 Content Element", "A VirtualSystemCollection holds virtual systems", "Add a VirtualSystem, or remove the collection.", false},
	{"OVF-ENV-009", Error, "7.2 Content Element" + schema, "A VirtualSystem and a VirtualSystemCollection have an Info", "Add an Info element as the first child.", true},
	{"OVF-ENV-010", Error, "OVF 0.9, Content", "A Content element says what it is", "Say xsi:type=\"ovf:VirtualSystem_Type\" or \"ovf:VirtualSystemCollection_Type\".", false},
	{"OVF-ENV-011", Error, "7.2 Content Element" + schema, "A VirtualSystem holds no other content", "Put VirtualSystems beside each other into a VirtualSystemCollection.", false},

	{"OVF-ENVF-001", Error, environment, "A File for the environment is in the References", "Add the File to the References, or correct ovf:fileRef.", false},
	{"OVF-ENVF-002", Error, environment, "A File for the environment has a path", "Give it an ovf:path, where the guest is to find it.", false},

	{"OVF-EULA-001", Error, "9.6 EulaSection", "An EulaSection has a License", "Add the License element, or remove the section.", true},

	{"OVF-EXT-001", Error, extension, "What is not of the standard is not required", "Say ovf:required=\"false\" where a product that does not know the element may go on without it; otherwise only products that know it can deploy the package.", false},
	{"OVF-EXT-002", Info, extension, "What is not of the standard is known", "Nothing has to be done: the element is passed over.", false},
	{"OVF-EXT-003", Error, extension, "ovf:required is true or false", "Write ovf:required=\"true\" or ovf:required=\"false\".", false},
	{"OVF-EXT-004", Warning, extension, "A vendor's section is not required", "Say ovf:required=\"false\" where a product that does not know the section may go on without it.", false},
	{"OVF-EXT-005", Error, extension, "What came with OVF 2.x is not required of readers of OVF 1.x", "Use the namespace http://schemas.dmtf.org/ovf/envelope/2, or say ovf:required=\"false\".", true},

	{"OVF-HW-001", Error, elements, "An Item has an InstanceID", "Add rasd:InstanceID, unique within the section.", false},
	{"OVF-HW-002", Error, elements, "InstanceIDs are unique", "Give each Item an InstanceID of its own; only ranges and Items for other deployment options share one.", false},
	{"OVF-HW-003", Error, elements, "An Item has a ResourceType", "Add rasd:ResourceType, a number of CIM_ResourceAllocationSettingData.", false},
	{"OVF-HW-004", Error, elements, "A ResourceType is a number", "Write a number of CIM_ResourceAllocationSettingData.ResourceType: 3 for processors, 4 for memory, 17 for disks.", false},
	{"OVF-HW-005", Error, ranges, "ovf:bound is normal, min or max", "Write ovf:bound=\"min\", \"max\" or \"normal\".", false},
	{"OVF-HW-006", Error, ranges, "A range has one lower and one upper end", "Remove the second Item with this bound and InstanceID.", false},
	{"OVF-HW-007", Error, ranges, "A range does not go downwards", "Write a max that is not below the min.", false},
	{"OVF-HW-008", Error, elements, "A Parent is the InstanceID of an Item", "Add the controller, or correct rasd:Parent.", true},
	{"OVF-HW-009", Error, elements, "A HostResource names a Disk or File that exists", "Add the Disk or File, or correct rasd:HostResource.", false},
	{"OVF-HW-010", Warning, elements, "A HostResource is written ovf:/disk/ID or ovf:/file/ID", "Write ovf:/disk/ID or ovf:/file/ID.", false},
	{"OVF-HW-011", Error, elements, "AllocationUnits is a unit", "Write a programmatic unit such as \"byte * 2^20\" or \"hertz * 10^6\".", false},
	{"OVF-HW-012", Warning, elements, "AllocationUnits is a programmatic unit", "Write \"byte * 2^20\" for MegaBytes, \"hertz * 10^6\" for MHz.", false},
	{"OVF-HW-013", Error, elements, "Quantities are numbers", "Write a whole number that is not negative.", false},
	{"OVF-HW-014", Warning, elements, "Memory has AllocationUnits", "Add rasd:AllocationUnits, byte * 2^20 for MiB.", false},
	{"OVF-HW-015", Error, elements, "An Item has an ElementName", "Add rasd:ElementName (rasd:Caption in 0.9).", true},
	{"OVF-HW-016", Warning, hardware, "A System says its family", "Add vssd:VirtualSystemType, such as vmx-13.", false},
	{"OVF-HW-017", Warning, hardware, "The VirtualHardwareSections of a VirtualSystem are for different families", "Give each VirtualHardwareSection a family (VirtualSystemType) of its own.", false},
	{"OVF-HW-018", Warning, elements, "Two devices are not at one place", "Give each device an AddressOnParent of its own.", false},
	{"OVF-HW-019", Error, elements, "No Item is its own parent", "Break the circle of rasd:Parent.", false},
	{"OVF-HW-020", Error, elements, "Processors and memory are more than zero", "Write a number above zero.", false},
	{"OVF-HW-021", Error, elements, "The ResourceType of an Item that is required is one that CIM defines", "Correct rasd:ResourceType, or say ovf:required=\"false\" where the machine can do without the device.", true},
	{"OVF-HW-022", Warning, elements, "A vendor's own ResourceType is not required", "Say ovf:required=\"false\" where the machine can do without the device.", false},
	{"OVF-HW-023", Error, ranges, "A range has a default", "Add the Item without ovf:bound that the range is for.", false},
	{"OVF-HW-024", Error, ranges, "The ends of a range are of one ResourceType with their default", "Write the ResourceType of the Item that the range is for.", false},
	{"OVF-HW-025", Error, ranges, "The default lies within its range", "Move the default, or the min or the max.", false},
	{"OVF-HW-026", Warning, hardware, "A transport is iso, or a vendor's name", "Write iso, or a name such as com.vmware.guestInfo; separate several by spaces.", false},
	{"OVF-HW-027", Error, elements, "What an Item can say once it says once", "Remove the second element.", false},
	{"OVF-HW-028", Warning, elements, "A drive's Parent is a controller", "Write the InstanceID of the IDE, SCSI, SATA or other controller that the drive is on.", false},
	{"OVF-HW-029", Error, elements, "AutomaticAllocation is true or false", "Write true or false.", false},
	{"OVF-HW-030", Warning, elements, "Processors and memory say how much", "Add rasd:VirtualQuantity.", false},

	{"OVF-INST-001", Error, install, "initialBootStopDelay is a number of seconds", "Write a whole number of seconds from 0 to 65535.", false},

	{"OVF-MSG-001", Error, texts, "A Strings element says its language", "Add xml:lang.", true},
	{"OVF-MSG-002", Warning, texts, "A Strings element's file exists", "Add the File to the References, or correct ovf:fileRef.", false},
	{"OVF-MSG-003", Error, texts, "A Msg has an ovf:msgid", "Give the Msg an ovf:msgid.", false},
	{"OVF-MSG-004", Warning, texts, "A msgid is that of a message in some language", "Add the message to the Strings, or remove ovf:msgid.", false},
	{"OVF-MSG-005", Error, texts, "A msgid stands once in a Strings element", "Give each Msg an ovf:msgid of its own.", true},

	{"OVF-NET-001", Error, netClause, "A Network has a name", "Give the Network an ovf:name.", false},
	{"OVF-NET-002", Error, netClause, "Names of Networks are unique", "Give each Network an ovf:name of its own.", false},
	{"OVF-NET-003", Error, netClause, "A Connection is the name of a Network", "Add the Network to the NetworkSection, or correct rasd:Connection.", true},

	{"OVF-OS-001", Error, operating, "An OperatingSystemSection has an ID", "Give it an ovf:id, a number of CIM_OperatingSystem.OsType (0 is unknown, 1 other).", false},

	{"OVF-PKG-001", Error, "5.1 OVF Package Structure", "The files of the References are in the package", "Add the file, or remove the File element.", false},
	{"OVF-PKG-002", Error, references, "Files have the sizes of the References", "Correct ovf:size, or put the right file into the package.", false},
	{"OVF-PKG-003", Info, "5.1 OVF Package Structure", "There is a manifest", "Add a manifest, by which anyone can check that the files are intact.", false},
	{"OVF-PKG-004", Warning, "5.1 OVF Package Structure", "All files of an archive are referred to", "Add the file to the References, or leave it out.", false},
	{"OVF-PKG-005", Error, diskClause, "A disk's file is of the format that it is said to be", "Correct ovf:format, or convert the disk.", false},
	{"OVF-PKG-006", Warning, archive, "The descriptor is the first file of an archive", "Make the archive again, the descriptor first.", false},
	{"OVF-PKG-007", Error, diskClause, "A disk's file has the capacity that it is said to have", "Correct ovf:capacity.", false},
	{"OVF-PKG-008", Error, references, "A file that is said to be compressed is a gzip file", "Compress the file, or leave ovf:compression out.", false},
	{"OVF-PKG-009", Warning, references, "A file that is a gzip file is said to be one", "Say ovf:compression=\"gzip\", or decompress the file.", false},
	{"OVF-PKG-010", Error, references, "Chunks but the last have the size that is said", "Cut the file into chunks of ovf:chunkSize bytes.", false},
	{"OVF-PKG-011", Warning, archive, "Files stand in an archive in the order of the References", "Make the archive again: the descriptor, the manifest and the certificate, the files in the order of the References.", false},
	{"OVF-PKG-012", Warning, "5.1 OVF Package Structure", "The files of the References lie beside the descriptor", "Put the files beside the descriptor; without them it is judged by itself.", false},

	{"OVF-PLACE-001", Error, placement, "A PlacementSection names a PlacementGroupSection", "Add the PlacementGroupSection to the envelope, or correct ovf:group.", false},
	{"OVF-PLACE-002", Error, placement, "A PlacementGroupSection has an ID", "Give it an ovf:id.", false},
	{"OVF-PLACE-003", Error, placement, "IDs of PlacementGroupSections are unique", "Give each an ovf:id of its own.", false},
	{"OVF-PLACE-004", Warning, placement, "A placement policy is affinity or availability", "Write ovf:policy=\"affinity\" or \"availability\".", false},

	{"OVF-PROP-001", Error, property, "A Property has a key", "Give the Property an ovf:key.", false},
	{"OVF-PROP-002", Error, property, "Keys are unique", "Give each Property a key of its own, or the ProductSection an ovf:class or ovf:instance.", false},
	{"OVF-PROP-003", Error, property, "A Property has a type", "Give the Property an ovf:type, such as string.", true},
	{"OVF-PROP-004", Error, property, "A Property's type is known", "Use string, boolean, uint8 to uint64, sint8 to sint64, real32 or real64.", true},
	{"OVF-PROP-005", Error, property, "A Property's value is of its type and keeps its qualifiers", "Correct ovf:value, or the type or the qualifiers.", false},
	{"OVF-PROP-006", Error, property, "Qualifiers can be read", "Write them as CIM does: MinLen(1), ValueMap{\"a\",\"b\"}.", true},
	{"OVF-PROP-007", Warning, property, "A key holds no period or colon", "Use ovf:class and ovf:instance for the parts of the key.", false},
	{"OVF-PROP-008", Error, product, "ProductSections differ in class or instance", "Give the ProductSections an ovf:class or ovf:instance each.", true},
	{"OVF-PROP-009", Error, property, "ovf:userConfigurable and ovf:password are true or false", "Write true or false.", false},
	{"OVF-PROP-010", Warning, property, "A password has no default", "Leave ovf:value out: all who have the package can read it.", false},
	{"OVF-PROP-011", Warning, property, "A type that is a vendor's own is not used", "Use a type of the standard; vmw:qualifiers say more.", false},
	{"OVF-PROP-012", Warning, property, "The value of a vendor's type is of that type", "Correct ovf:value, or use a type of the standard.", false},
	{"OVF-PROP-013", Warning, property, "Qualifiers of a vendor can be read", "Write them as CIM does: MinLen(1), Ip(\"network\").", false},
	{"OVF-PROP-014", Error, product, "An Icon names a File", "Give the Icon the ovf:fileRef of a File in the References.", false},
	{"OVF-PROP-015", Error, property + schema, "A Value has a value", "Give the Value an ovf:value, or remove it.", false},
	{"OVF-PROP-016", Warning, deployment, "A Property has one Value for a Configuration", "Remove the Value that is not meant.", false},
	{"OVF-PROP-017", Warning, property, "Qualifiers fit the type", "Use MinLen, MaxLen and ValueMap for strings, ValueMap for numbers.", false},

	{"OVF-REF-001", Error, references, "A File has an ID", "Give the File an ovf:id.", false},
	{"OVF-REF-002", Error, references, "A File has an href", "Give the File an ovf:href.", false},
	{"OVF-REF-003", Error, references, "IDs of Files are unique", "Give each File an ovf:id of its own.", false},
	{"OVF-REF-004", Error, references, "A size is a number of bytes", "Write the file's size, or leave ovf:size out.", false},
	{"OVF-REF-005", Warning, references, "A size is not negative", "Write the file's size, or leave ovf:size out where it is not known.", false},
	{"OVF-REF-006", Error, references, "A compression is gzip or identity", "Write ovf:compression=\"gzip\", or leave it out.", false},
	{"OVF-REF-007", Error, references, "A chunkSize is a number of bytes", "Write a whole number above zero.", false},
	{"OVF-REF-008", Warning, references, "An href is a file beside the descriptor", "Put the file beside the descriptor: in an archive nothing else can be.", false},
	{"OVF-REF-009", Error, references, "Two Files do not refer to one file", "Refer to the one File from several places.", true},
	{"OVF-REF-010", Info, references, "A File is used", "Remove the File element and the file, or refer to it.", false},
	{"OVF-REF-011", Error, references, "OVF 0.9 knows no compression \"identity\"", "Leave ovf:compression out.", false},
	{"OVF-REF-012", Error, references, "An href can be read", "Write a relative URI; spaces are written %20.", true},
	{"OVF-REF-013", Error, "OVF 0.9, References", "A File of OVF 0.9 has a size", "Write the file's size in bytes as ovf:size: later versions may leave it out, 0.9 may not.", true},
	{"OVF-REF-014", Warning, references, "A size is one that a file can have", "Write the file's size.", false},

	{"OVF-RES-001", Error, resources, "Only collections have a ResourceAllocationSection", "Move the section into a VirtualSystemCollection.", false},

	{"OVF-SCALE-001", Error, scaleOut, "Counts of instances are numbers above zero", "Write whole numbers above zero, or ${property}.", false},
	{"OVF-SCALE-002", Error, scaleOut, "A default count lies between minimum and maximum", "Write counts of which the minimum is the least and the maximum the most.", false},

	{"OVF-SEC-001", Error, "9 Core Metadata Sections", "Sections stand where the standard has them", "Move the section to its place.", false},
	{"OVF-SEC-002", Error, "9 Core Metadata Sections", "A section stands once", "Put what is in the second section into the first.", true},
	{"OVF-SEC-003", Error, "7 Envelope Element", "A section has an Info", "Add an Info element as the first child.", true},
	{"OVF-SEC-004", Error, "9 Core Metadata Sections" + schema, "What a section can say once it says once", "Remove the second element.", true},

	{"OVF-START-001", Error, startup, "An Item's id is that of an entity of the collection", "Correct ovf:id, or add the virtual system.", true},
	{"OVF-START-002", Error, startup, "An Item has an order", "Give the Item an ovf:order, a number from 0 on.", false},
	{"OVF-START-003", Error, startup, "Delays are numbers of seconds", "Write a whole number of seconds.", false},
	{"OVF-START-004", Error, startup, "Actions are those of the standard", "Use powerOn or none to start, powerOff, guestShutdown or none to stop.", true},
	{"OVF-START-005", Error, startup, "An entity stands once", "Remove the second Item for it.", false},
	{"OVF-START-006", Error, startup, "waitingForGuest is true or false", "Write true or false.", false},

	{"OVF-XML-001", Error, "Namespaces in XML 1.0, clause 5", "Prefixes are declared", "Declare the prefix with xmlns:…, or correct it.", false},
	{"OVF-XML-002", Error, "6 OVF Descriptor", "The descriptor is well-formed XML", "Correct the XML at the place that is given.", false},
	{"OVF-XML-003", Error, "7 Envelope Element", "The outermost element is an Envelope", "Put the descriptor into an Envelope of OVF's namespace.", false},
}
