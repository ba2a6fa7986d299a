"""The wording of the support messages: products, people and sentences.

``[a|b|c]`` in a sentence means "pick one"; ``{p}`` is the product and ``{o}`` the order number.
The last sentence of every list in ``SITUATIONS`` is kept out of pretraining and of the training
rows (see ``messages.make``), so the test rows hold sentences that the model has never seen.
"""

from __future__ import annotations


def _words(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(text.split(separator))


# Product nouns by kind. The kind matters to the desk's routing rules and is never written out.
NOUNS: dict[str, tuple[str, ...]] = {
    "bulky": _words(
        "sofa, wardrobe, bookcase, bed frame, dining table, mattress, sideboard, "
        "armchair, desk, garden bench, chest of drawers, coffee table",
        ", ",
    ),
    "powered": _words(
        "kettle, desk lamp, toaster, fan, vacuum, blender, coffee grinder, heater, "
        "speaker, air purifier, hand mixer, rice cooker",
        ", ",
    ),
    "plain": _words(
        "mug set, rug, blanket, cutting board, frying pan, knife set, curtain, "
        "backpack, pillow, picture frame, laundry basket, vase",
        ", ",
    ),
}

# Product lines of the demo's shop. The second tuple appears in the test rows only.
LINES_TRAIN = _words(
    "Alder Brisk Corvo Dalmar Elmwood Fjord Garnet Haven Ivory Juno Kestrel Linden Marlow "
    "Norden Opal Pike"
)
LINES_TEST = ("Quill", "Rowan", "Saffron", "Tamsin", "Umbra", "Verity")

NAMES = _words(
    "Anna Ben Carla Dan Emma Farid Grace Hugo Ines Jack Kate Leo Maria Nina Omar Paul Rosa Sam "
    "Tara Uma Victor Wendy Yusuf Zara Priya Tom Ella Mark Julia Chris Linda Peter"
)
NAMES_NON_ASCII = (
    "José",
    "Zoë",
    "Łukasz",
    "Åsa",
    "Søren",
    "Chloé",
    "Björn",
    "Nuño",
    "Márta",
    "Jürgen",
    "陈伟",
)
SURNAMES = _words(
    "Hill Okafor Novak Reyes Schmidt Patel Moore Kim Costa Dubois Larsen Rossi Ward Ali Jensen "
    "Brown"
)

OPENINGS = (
    "Hi,",
    "Hello,",
    "Hi there,",
    "Hey,",
    "Dear team,",
    "Good morning,",
    "Good afternoon,",
    "Hello support,",
    "hi!",
    "Dear Sir or Madam,",
    "Hey folks,",
    "To whom it may concern,",
    "Good evening,",
    "Hi support team,",
    "hiya",
)
SMALL_TALK = (
    "[hope you are|I hope you are all] [well|having a good week|keeping warm].",
    "[Sorry|Apologies] [to bother you|for the long mail|for writing again].",
    "[First time|Second time] [writing|contacting you], [so bear with me|not sure this is right].",
    "I [tried|have tried] [the phone line|calling|your chat] but [nobody picked up|gave up].",
    "[My neighbour|My sister|A colleague] [told me to write here|said you would know].",
    "Long time customer here.",
    "[Quick one|Just a short note] from me.",
    "I [found this address|got this address] [on the website|on the receipt|in the box].",
)

# What the message is about. 13 intents; the list order is the order of the latent labels.
SITUATIONS: dict[str, tuple[str, ...]] = {
    "broken": (
        "[The|My|Our] {p} [arrived|turned up|came] [broken|cracked|smashed|damaged|in pieces].",
        "I [opened|unpacked] the box and the {p} [was|is] [cracked|broken|badly dented].",
        "The [box|parcel] was [crushed|ripped open] and the {p} inside is [damaged|ruined].",
        "[There is|I found] a [big crack|deep scratch|huge dent] in the {p} [straight from the "
        "box|you just delivered].",
        "{p} [delivered|came] [today|yesterday|this morning], [smashed|broken] on arrival.",
        "[Unboxed|Unwrapped] the new {p} [last night|an hour ago] only to find it [in pieces|"
        "cracked|split].",
        "Your courier [dropped|threw] the {p} and now it is [broken|dented|damaged].",
        "The {p} [did not survive the trip|got wrecked on the way here].",
    ),
    "fault": (
        "[The|My|Our] {p} [stopped working|packed up|gave out] [after a month|last week|after "
        "two weeks|already].",
        "I have had the {p} for [three months|half a year|a while] and [it failed|now it is "
        "failing].",
        "The {p} was fine [at first|until last week] but [it no longer works|it is falling apart "
        "now].",
        "[After|With] [normal use|a few weeks of use] the {p} [has gone wrong|is faulty].",
        "My {p} has [developed a fault|a defect that got worse], [still under warranty|bought in "
        "spring].",
        "[Only used|Barely used] the {p} [ten times|for a season] and it [died|gave up] on me.",
        "The {p} [keeps failing|has failed again], [worked well for months|it was great before].",
        "Our {p} [conked out|went kaput] [after some weeks|the other day], it used to be great.",
    ),
    "late": (
        "[The|My|Our] {p} [has not arrived|still is not here|never showed up].",
        "I am [still waiting|waiting] for [the|my] {p}, [it was due|you promised it for] [Monday|"
        "last week|Friday].",
        "Where is [my|the] {p}? [Tracking|The tracking page] [has not moved|says nothing].",
        "[It has been|Already] [two weeks|ten days|three weeks] and no {p} [yet|in sight].",
        "The delivery of the {p} is [late|overdue|way behind].",
        "[Expected|Was expecting] the {p} [days ago|last Tuesday], [nothing came|no van, no "
        "parcel].",
        "The courier [says delivered|marked it as delivered] but [there is no|I have no] {p} here.",
        "Any [news|word] on when the {p} [turns up|gets here]? It [should have come|was meant to "
        "come] ages ago.",
    ),
    "wrong": (
        "I [ordered|bought] the {p} but [got|received|was sent] [something else|a different "
        "thing].",
        "You sent [the wrong thing|somebody else's parcel] instead of the {p}.",
        "[The|My] {p} is [the wrong colour|the wrong size|not the model I chose].",
        "[Wrong item|Wrong article] in the box, it [should be|should have been] the {p}.",
        "This is not the {p} that I [picked|ordered], [it looks different|another version].",
        "[Instead of|In place of] the {p} there was [a random item|some other product] in the "
        "[box|parcel].",
        "The label says {p} but [inside was another product|the contents do not match].",
        "[Mixed up parcels|A mix-up], I think: I [asked for|paid for] the {p} and [hold|got] "
        "another article.",
    ),
    "return": (
        "I [would like|want] to [return|send back] the {p}, [it does not fit|I changed my mind].",
        "The {p} is [not for me|not what I hoped], [how do I|can I] [send it back|return it]?",
        "[Can I|May I] [give back|return] [the|my] {p}? [It is unused|Still in the box].",
        "[Changed|I have changed] my mind about the {p}, [please take it back|want my money back].",
        "The {p} [does not suit|does not match] [our flat|the room], [I want to return it|so back "
        "it goes].",
        "[Please send|I need] a [return label|return slip] for the {p}.",
        "[Bought|Got] the {p} as a gift and [they have one already|it was not liked], return "
        "please.",
        "We [decided against|do not need] the {p} after all, it is [unopened|as new], [how to "
        "give it back|refund possible]?",
    ),
    "charge": (
        "I was [charged twice|billed twice|billed two times] for the {p}.",
        "[My card|My bank] shows [two payments|a double payment] for the {p}.",
        "The [amount|price] on my [card|statement] for the {p} is [wrong|too high].",
        "You [took|have taken] [more money|too much] for the {p} than [the site said|agreed].",
        "The discount [was not applied|is missing] on the [bill|payment] for the {p}.",
        "[Still no refund|The refund never came] for the {p} that you [agreed|promised] to pay "
        "back.",
        "[Double charge|Duplicate charge] on my account, for the {p}.",
        "My [account|card] was [debited|hit] two times over one {p}.",
    ),
    "cancel": (
        "[Please cancel|I want to cancel|Cancel] [my|the] order for the {p}.",
        "I [no longer need|do not want] the {p}, [please stop the order|please cancel it].",
        "[Can you|Could you] [cancel|stop] the {p} before it [ships|goes out]?",
        "I ordered the {p} [by mistake|twice by accident], [cancel it please|please cancel one].",
        "[Found it cheaper|My plans changed], [cancel the {p}|so cancel the {p}] [please|thanks].",
        "[Is it possible|Is there a way] to cancel the {p} [order|purchase]?",
        "[Do not send|Please do not ship] the {p}, [I must cancel|cancel that order].",
        "[Call off|Scrap] the {p} order [please|for me], it has not [shipped|left] yet.",
    ),
    "address": (
        "I [moved|am moving], please [send|deliver] the {p} to [my new address|another address].",
        "The [address|street number] on the order for the {p} is [wrong|old].",
        "[Can you|Could you] change the delivery address [for|of] the {p}?",
        "[Please update|I need to update] where the {p} goes, [we moved house|new flat].",
        "[Typed|I typed] the wrong [postcode|street] when buying the {p}, [fix it please|can you "
        "fix it].",
        "The {p} should go to [my office|my parents|the shop], [not to my home|other address].",
        "[New address|Address change] for the {p} [order|delivery], please.",
        "[Redirect|Reroute] the {p} to [a different street|our new place] [please|if you can].",
    ),
    "howto": (
        "How do I [set up|clean|use|put together] the {p}?",
        "The [manual|leaflet] of the {p} [makes no sense|is missing], [how does it work|what is "
        "step one]?",
        "[Can you|Could you] [explain|tell me] how to [assemble|look after|clean] the {p}?",
        "I [cannot work out|do not understand] how the {p} [goes together|is meant to be used].",
        "[Need help|I need some help] with [setting up|first use of] the {p}.",
        "What is the [right|best] way to [clean|store|care for] the {p}?",
        "Is there a [video|guide] [for|about] [using|assembling] the {p}?",
        "[Stuck on|Lost with] the instructions of the {p}, which [part|bit] goes first?",
    ),
    "stock": (
        "[Do you|Will you] [have|get] the {p} [in blue|in green|in a larger size]?",
        "When [is|will] the {p} [back in stock|be available again]?",
        "I am [thinking of buying|looking at] the {p}, [what does it weigh|is it on sale soon]?",
        "Is the {p} [sold out|gone for good] or [coming back|will there be more]?",
        "[Before I order|Before buying]: [what size is|is there a warranty on] the {p}?",
        "[Can I|Could I] [buy|order] [five|ten|several] of the {p} [for our office|at a discount]?",
        "Is the {p} [available|in the shop] [near me|for pickup]?",
        "[Planning to get|Tempted by] the {p}, does it [come in other colours|ship abroad]?",
    ),
    "invoice": (
        "[Please send|I need|Could I have] [the invoice|a copy of the invoice] for the {p}.",
        "The invoice for the {p} [lacks|is missing] [our tax number|the company name].",
        "My [accountant|boss] [asks for|needs] the receipt [for|of] the {p}.",
        "I [cannot find|lost] the [receipt|invoice] [for|of] the {p}, [can you resend it|new "
        "copy please].",
        "[Can you|Could you] [email|send] me [the bill|a tax invoice] for the {p}?",
        "[No invoice|No receipt] came with the {p}, [I need one for work|please mail it].",
        "For [insurance|tax] I need [proof of purchase|the papers] of the {p}.",
        "[Paperwork|The bill document] for the {p} please, our books [close soon|need it].",
    ),
    "praise": (
        "[Just wanted to say|I want to say] [the|my] {p} is [great|wonderful|perfect].",
        "[Thank you|Thanks] for the {p}, [we love it|it looks fantastic|very happy].",
        "The {p} is [the best thing I bought|even better than expected].",
        "[Great service|Lovely driver], and the {p} is [beautiful|super].",
        "[So happy|Really pleased] with [the|my new] {p}.",
        "[My kids|We all] [adore|love] the {p}, [well done|great job].",
        "[Five stars|Top marks] for the {p} [from me|and your team].",
        "[Kudos|Compliments] to whoever [made|designed] the {p}, [a joy|what a find].",
    ),
    "safety": (
        "The {p} [gave me a shock|cut my hand|nearly hurt my child].",
        "[There was smoke|There were sparks|There was a burning smell] coming from the {p}.",
        "[My daughter|My son|I] got [hurt|injured|burned] by the {p}.",
        "The {p} [tipped over|collapsed] and [almost hit|nearly hit] [somebody|our toddler].",
        "[A sharp edge|A loose part] on the {p} is [dangerous|a danger to kids].",
        "I [do not feel safe|am scared] [using|being near] the {p}, [it is dangerous|it is a "
        "hazard].",
        "The {p} [caught fire|started to melt|broke under me], [luckily nobody was hurt|I was "
        "lucky].",
        "[Ended up in hospital|Needed a doctor] because of the {p}.",
    ),
}

# A second sentence that fits the intent's group and adds nothing to the decision.
DETAILS = (
    "[I have photos|I can send photos|Pictures attached] if [needed|you want them].",
    "[It was|This was] [a birthday gift|a wedding present|for my mother|for our new flat].",
    "[I paid|We paid] [by card|with a gift card|through the app].",
    "[My husband|My wife|My flatmate] [ordered it|placed the order] [online|in the shop].",
    "[The rest|Everything else] [was fine|looks good].",
    "We live [on the third floor|outside town|next to the station].",
    "[I checked|I looked at] the [help page|website] [twice|first] and [found nothing|got lost].",
    "[Bought it|Got it] in the [summer|winter|spring] sale.",
    "You can [call me|ring me] on {phone}.",
    "[My customer number|My account number] is {acct}.",
    "It cost me [about|around] {price} [euros|dollars|pounds].",
    "[By the way|Also], my {q} from you is [still going strong|great|lovely].",
    "[Last year|Before this] I bought [a|the] {q} [here too|from you], [no complaints|all good].",
    "[The dog|The cat] [already loves the box|sleeps in the packaging], ha.",
    "[Weather has been|It has been] [awful|lovely] here [lately|this week].",
    "[Your website|The app] [is a bit slow|logged me out] by the way.",
)
ORDER_SENTENCES = (
    "[Order|My order] [number|no.] [is|was] {o}.",
    "Order {o}.",
    "[It is|This is] order {o}.",
    "[Ref|Reference]: {o}",
    "(order {o})",
    "The order is {o}[.|, placed last month.]",
    "#{o}",
    "[My|The] order number: {o}.",
    "Confirmation mail says {o}.",
    "It is about {o}.",
)
NO_ORDER_SENTENCES = (
    "I [cannot find|do not have|lost] the order number.",
    "No order number [at hand|here], sorry.",
    "[Not sure|No idea] where to find the order number.",
    "",
    "",
    "",
    "",
    "",
)
URGENT = (
    "[I need this|I need it sorted|Please fix it] [today|by tomorrow|right now].",
    "This is [urgent|very urgent].",
    "[Please|You must] answer [immediately|at once|asap].",
    "[It cannot wait|I cannot wait any longer].",
    "[This is the third time I write|Third mail!!].",
    "[The party|The wedding|My move] is [tomorrow|this Friday|in two days].",
    "I am [really angry|furious|losing patience].",
    "[Reply within the hour|Call me NOW].",
    "[If this is not solved today|Otherwise] I [go to a lawyer|dispute the payment].",
)
RELAXED = (
    "[No rush|No hurry] [at all|from my side].",
    "[Whenever|When] you [have a minute|get to it].",
    "[Take your time|It can wait].",
    "[Not urgent|Nothing urgent].",
    "[There is no hurry|It is not pressing], [really|just curious].",
    "Next [week|month] is fine.",
    "[I am in no hurry|I do not mind waiting].",
    "Low priority [for me|on my side].",
)
ASKS = (
    "[What now|What can you do|What should I do]?",
    "Please [help|advise|let me know].",
    "[Could you|Can you] [look into it|check this|help me]?",
    "[Looking forward to|Waiting for] your [answer|reply].",
    "[Let me know|Tell me] [what you need|the next step].",
    "",
    "",
    "",
)
CLOSINGS = (
    "Thanks, {n}",
    "Best, {n}",
    "Kind regards, {n}",
    "Cheers, {n}",
    "Best wishes, {n}",
    "{n}",
    "Many thanks, {n}",
    "Regards\n{n}",
    "Thank you!\n{n}",
    "- {n}",
    "Sincerely, {n}",
    "thx {n}",
    "",
    "",
    "Thank you.",
    "Thanks!",
)

# Material for the random conventions of pretraining; the demo's own keys and labels are absent.
KEYS: dict[str, tuple[str, ...]] = {
    "product": _words("item article thing goods what sku_name object model_name"),
    "order": _words("ref order_no po id number purchase order_id ticket_ref"),
    "name": _words("customer from sender who client signed contact person"),
    "route": _words(
        "team topic category dept type class reason label tag group intent handler "
        "subject area code box"
    ),
    "kind": _words("kind family range shelf section size_class"),
    "urgency": _words("priority level prio severity speed importance p heat"),
    "due": _words("due sla deadline answer_in target window within eta"),
    "known": _words("has_order known order_given found linked complete"),
    "const": _words("lang source v shop channel status format"),
}
LABEL_WORDS = _words(
    "damage repair transport mixup refunds finance stop moves manuals presales papers thanks "
    "danger alpha beta gamma delta red blue green gold north south east west lion otter crane "
    "maple birch logistics quality accounts care legal web store second first third team unit "
    "cell crew room line hub pool stack tray bin list open closed hot cold mid top base soft "
    "hard fast slow watch hold pass push pull trace swap edit sort check call mail front back "
    "side desk file note card key lock gate door lane"
)
LEVEL_WORDS = (
    ("urgent", "medium", "relaxed"),
    ("p1", "p2", "p3"),
    ("1", "2", "3"),
    ("A", "B", "C"),
    ("hot", "warm", "cold"),
    ("now", "soon", "later"),
    ("critical", "standard", "minor"),
    ("3", "2", "1"),
    ("red", "amber", "green"),
    ("fast", "medium", "slow"),
    ("rush", "std", "idle"),
)
