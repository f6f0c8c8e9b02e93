// Package kubename has the rules for the names and identifiers of Kubernetes
// objects, as far as they matter when they are compared.
package kubename

import "strings"

// IsLabel reports whether s is a DNS label of RFC 1123, as namespaces are.
func IsLabel(s string) bool {
	return len(s) <= 63 && !strings.Contains(s, ".") && IsSubdomain(s)
}

// IsSubdomain reports whether s is what Kubernetes calls a DNS-1123 subdomain, as
// most names are. Its length is limited as a whole, not for each label.
func IsSubdomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	last := byte('.')
	for i := range len(s) {
		c := s[i]
		alphanumeric := '0' <= c && c <= '9' || 'a' <= c && c <= 'z'
		switch {
		case alphanumeric, c == '-' && last != '.', c == '.' && last != '.' && last != '-':
			last = c
		default:
			return false
		}
	}
	return last != '.' && last != '-'
}

// IsPrintable reports whether s is an identifier that a log can show.
func IsPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 128
}
