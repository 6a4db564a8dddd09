package ovf

import (
	"fmt"
	"sort"
	"strings"
)

// properties finds every property's value.
func (r *resolver) properties() {
	r.props = map[string]*ResolvedProperty{}
	r.out.properties = map[*Content][]*ResolvedProperty{}
	r.bare = map[string][]*ResolvedProperty{}
	full := map[string][]*ResolvedProperty{}
	var all []*ResolvedProperty
	r.env.Content.Walk(func(c *Content) {
		for _, product := range c.Products {
			for _, p := range product.Properties {
				v := r.defaultValue(p)
				v.System = c.ID
				all = append(all, v)
				if r.applies(p.Configurations) { // ${key} finds the others too
					r.out.properties[c] = append(r.out.properties[c], v)
				}
				r.bare[p.Key] = append(r.bare[p.Key], v)
				full[p.FullKey] = append(full[p.FullKey], v)
				if r.props[p.FullKey] == nil {
					r.props[p.FullKey] = v
				}
			}
		}
	})
	for _, key := range sortedKeys(r.opt.Properties) {
		value := r.opt.Properties[key]
		found := full[key]
		if len(found) == 0 {
			found = r.bare[key]
			if len(found) > 1 && found[0].FullKey != found[len(found)-1].FullKey {
				r.fail(Pos{}, "property %q could be %s or %s: give the whole key", key, found[0].FullKey, found[1].FullKey)
				continue
			}
		}
		if len(found) == 0 {
			r.fail(Pos{}, "there is no property %q in the descriptor%s", key, nearest(key, all))
			continue
		}
		for _, v := range found {
			if !v.UserConfigurable {
				r.wrong(v.Pos(), "property %s is not for users to set (ovf:userConfigurable)", v.FullKey)
				continue
			}
			if err := v.CheckValue(value); err != nil {
				r.wrong(v.Pos(), "property %s: %v", v.FullKey, err)
				continue
			}
			v.Value, v.Set, v.Given = value, true, true
		}
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// nearest names keys that may have been meant.
func nearest(key string, all []*ResolvedProperty) string {
	for _, v := range all {
		if strings.EqualFold(v.FullKey, key) || strings.EqualFold(v.Key, key) {
			return fmt.Sprintf("; did you mean %s?", v.FullKey)
		}
	}
	if len(all) == 0 {
		return ", which has none"
	}
	return ""
}

func (r *resolver) defaultValue(p *Property) *ResolvedProperty {
	v := &ResolvedProperty{Property: p, Value: p.Value, Set: p.HasValue}
	for _, o := range p.Values {
		if o.Option == "" && !v.Set || o.Option != "" && o.Option == r.option() {
			v.Value, v.Set = o.Value, true
		}
	}
	return v
}

// quantity reads a number, or a reference ${key} to a property that holds it as
// DSP0243 has it for capacities. The value of a password is in no error.
func (r *resolver) quantity(text string, u Unit) (int64, error) {
	key, ok := Reference(text)
	if !ok {
		return u.Quantity(text)
	}
	v, err := r.referred(text, key)
	if err != nil {
		return 0, err
	}
	n, err := u.Quantity(v.Value)
	if err != nil && v.Password {
		return 0, fmt.Errorf("the value of property %s is not a number that can be counted in this unit", v.FullKey)
	}
	return n, err
}

// referred is the property that ${key} stands for; it has a value.
func (r *resolver) referred(text, key string) (*ResolvedProperty, error) {
	v := r.props[key]
	if v == nil {
		// The bare key, where class and instance are left out.
		if same := r.bare[key]; len(same) > 0 {
			v = same[0]
			for _, other := range same[1:] {
				if other.FullKey != v.FullKey {
					return nil, fmt.Errorf("%s could be the property %s or %s: give the whole key", text, v.FullKey, other.FullKey)
				}
			}
		}
	}
	switch {
	case v == nil:
		return nil, fmt.Errorf("%s refers to a property that the descriptor does not have", text)
	case !v.Set:
		return nil, fmt.Errorf("%s has no value: set property %s", text, v.FullKey)
	}
	return v, nil
}

// Reference takes the key out of ${key}.
func Reference(text string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "${")
	if !ok || !strings.HasSuffix(rest, "}") {
		return "", false
	}
	return strings.TrimSuffix(rest, "}"), true
}
