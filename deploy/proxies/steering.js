// Whom a bearer token names, for nginx's njs. The token is not verified here: the replica does that.
// Change `preferred_username` to the gateway's `username_claim`.

function steer(request) {
    const given = request.headersIn.Authorization || "";
    try {
        const payload = Buffer.from(given.split(".")[1], "base64url").toString();
        const name = JSON.parse(payload).preferred_username;
        if (typeof name === "string") {
            return name;
        }
    } catch (error) {
        // no token of this form
    }
    return given || request.uri.split("/")[3] || ""; // for signed URLs of transfers the ticket, which all parts share
}

export default { steer };
