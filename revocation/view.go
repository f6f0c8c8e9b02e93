package revocation

import (
	"errors"
	"maps"
	"time"
)

const (
	// clockSlack is G: how far clocks may be apart, delivery included.
	clockSlack = time.Minute
	// deletionGrace is D: for how long after its deletionTimestamp TokenReview
	// still honours an object.
	deletionGrace = time.Minute
	// maxSilence is Q: a stream that is silent for that long is replaced.
	maxSilence = 90 * time.Second

	// maxApart is how far clocks may be apart so that gone is final: as far as
	// Config.Leeway goes.
	maxApart = 5 * time.Minute
	// keepGone is how long a deleted UID is remembered. It was minted for at most
	// maxApart after we saw the deletion, by the API server's clock, and the view
	// knows that from clockSlack later on.
	keepGone = maxApart + clockSlack
	// pruneEvery is how often old UIDs are removed from gone.
	pruneEvery = 10 * time.Second

	// maxObjects is how many objects one view holds at most. Kubernetes is designed for
	// 150,000 pods in a cluster.
	maxObjects = 500_000
)

var errTooMany = errors.New("more objects than a cluster can have")

// A view is what is known about the objects of one stream. It knows no network and
// no clock. The zero value knows nothing.
type view struct {
	live map[string]int64     // UID to deletionTimestamp in Unix seconds; 0: none
	gone map[string]time.Time // UID to when the deletion was seen
	asOf time.Time            // the view is complete as of then; zero: before the first list

	pruned time.Time // when gone was last gone through
}

func (v *view) size() int { return len(v.live) + len(v.gone) }

// put notes an object that was added or modified.
func (v *view) put(uid string, deletion int64) error {
	if _, known := v.live[uid]; !known && v.size() >= maxObjects {
		return errTooMany
	}
	if v.live == nil {
		v.live = make(map[string]int64)
	}
	v.live[uid] = deletion
	delete(v.gone, uid)
	return nil
}

// remove notes that an object was deleted.
func (v *view) remove(uid string, now time.Time) error {
	_, known := v.live[uid]
	if !known && v.size() >= maxObjects {
		return errTooMany
	}
	delete(v.live, uid)
	if v.gone == nil {
		v.gone = make(map[string]time.Time)
	}
	v.gone[uid] = now
	return nil
}

// change takes an event of a stream after its list.
func (v *view) change(kind, uid string, deletion int64, now time.Time) error {
	var err error
	if kind == "DELETED" {
		err = v.remove(uid, now)
	} else {
		err = v.put(uid, deletion)
	}
	if err == nil {
		v.heard(now)
	}
	return err
}

// heard notes that the view is complete as of now.
func (v *view) heard(now time.Time) {
	v.asOf = now
	if elapsed(v.pruned, now) < pruneEvery {
		return
	}
	v.pruned = now
	maps.DeleteFunc(v.gone, func(_ string, when time.Time) bool { return when.Add(keepGone).Before(v.asOf) })
}

// listed returns the view after a complete list that was asked for at requested
// and ended now. What the list lacks is gone: UIDs are never used again. It
// leaves v as it is.
func (v *view) listed(list map[string]int64, requested, now time.Time) view {
	next := view{live: list, gone: make(map[string]time.Time, len(v.gone)), asOf: requested, pruned: now}
	for uid, when := range v.gone {
		if _, listed := list[uid]; !listed && !when.Add(keepGone).Before(requested) {
			next.gone[uid] = when
		}
	}
	for uid := range v.live {
		if _, listed := list[uid]; !listed {
			next.gone[uid] = now
		}
	}
	return next
}

// judge says, at time t, whether the object is gone and, if it is not, whether
// the view has it. A token that was issued at iat proves that it was there at
// that time.
func (v *view) judge(uid string, iat, t time.Time) (gone, live bool) {
	if _, gone := v.gone[uid]; gone {
		return true, false
	}
	deletion, live := v.live[uid]
	switch {
	case !live: // or younger than the view
		return iat.Add(clockSlack).Before(v.asOf), false
	case deletion != 0:
		return time.Unix(deletion, 0).Add(deletionGrace).Before(t), true
	default:
		return false, true
	}
}

// elapsed is t - from by the monotonic or the wall clock, whichever is more. So neither
// a clock that was set back nor a machine that slept makes a view younger. For the zero
// time it is more than any limit.
func elapsed(from, t time.Time) time.Duration {
	return max(t.Sub(from), time.Duration(t.UnixNano()-from.UnixNano()))
}
